//! Line ends of an edited text.

use diffy::{DiffOptions, Line};

/// Gives the lines of `after` the line ends that they have in `before`. A line that `before` does not
/// have ends like the line before it there.
pub fn with_line_ends_of(before: &str, after: &str) -> String {
    if !before.contains('\r') {
        return after.to_owned();
    }
    let (old, new) = (split(before), split(after));
    let mut out = String::with_capacity(after.len());
    let most_used = end_of(old.iter().map(|line| line.1)).to_owned();
    for ((body, end), neighbour) in new.iter().zip(neighbours(&old, &new)) {
        let near = || {
            let above = old[..old.len().min(neighbour.line + 1)].iter().rev().map(|line| line.1);
            above.into_iter().find(|end| !end.is_empty())
        };
        let same = neighbour.is_same.then(|| old[neighbour.line].1);
        out.push_str(body);
        out.push_str(match same {
            // The last line of a text may have no end.
            _ if end.is_empty() => "",
            Some(end) if !end.is_empty() => end,
            _ => near().unwrap_or(&most_used),
        });
    }
    out
}

/// The old line whose end a new line takes.
struct Neighbour {
    /// Index of the old line.
    line: usize,
    /// Whether the new line is that line.
    is_same: bool,
}

/// The neighbour of each new line. Ends are not compared.
fn neighbours(old: &[(&str, &str)], new: &[(&str, &str)]) -> Vec<Neighbour> {
    let bodies =
        |lines: &[(&str, &str)]| lines.iter().flat_map(|line| [line.0, "\n"]).collect::<String>();
    let (old_bodies, new_bodies) = (bodies(old), bodies(new));
    // With all lines as context, the patch has at most one hunk.
    let mut options = DiffOptions::new();
    let patch = options.set_context_len(old.len() + new.len());
    let patch = patch.create_patch(&old_bodies, &new_bodies);
    let Some(hunk) = patch.hunks().first() else {
        return (0..new.len()).map(|line| Neighbour { line, is_same: true }).collect();
    };
    let mut out = Vec::with_capacity(new.len());
    let (mut at, mut change_start, mut inserted) = (0, 0, 0);
    for line in hunk.lines() {
        match line {
            Line::Context(_) => {
                out.push(Neighbour { line: at, is_same: true });
                at += 1;
                (change_start, inserted) = (at, 0);
            }
            Line::Delete(_) => at += 1,
            Line::Insert(_) => {
                let replaced = (change_start..at).nth(inserted).or_else(|| at.checked_sub(1));
                out.push(Neighbour { line: replaced.unwrap_or(0), is_same: false });
                inserted += 1;
            }
        }
    }
    out
}

/// The lines of a text, each with its end.
fn split(text: &str) -> Vec<(&str, &str)> {
    let line = |line| {
        let body = str::strip_suffix(line, "\n")
            .map_or(line, |body| body.strip_suffix('\r').unwrap_or(body));
        (body, &line[body.len()..])
    };
    text.split_inclusive('\n').map(line).collect()
}

/// The first line end in use.
fn end_of<'a>(mut ends: impl Iterator<Item = &'a str>) -> &'a str {
    ends.find(|end| !end.is_empty()).unwrap_or("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_stay_keep_their_ends_and_new_lines_end_like_their_neighbours() {
        for (before, after, expected) in [
            ("a\r\nb\nc", "a\nnew\nb\nc", "a\r\nnew\r\nb\nc"),
            ("a\r\nb\r\n", "a\nb\nnew\n", "a\r\nb\r\nnew\r\n"),
            ("a\nb\r\n", "a\nnew\nb\n", "a\nnew\nb\r\n"),
            ("{}\r", "{\n}\r", "{\n}\r"),
            ("a\r\nb", "a\nb\nnew", "a\r\nb\r\nnew"),
            ("a\nb\n", "x\n", "x\n"),
        ] {
            assert_eq!(with_line_ends_of(before, after), expected, "{before:?}");
        }
    }
}
