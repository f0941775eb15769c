//! How is a TOML file changed without touching what is foreign in it?

use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, TableLike, value};

use super::{Change, OURS, foreign_server, is_ours};
use crate::code::Code;
use crate::decide::Refusal;

/// Changes what a file says; the file may be missing or empty.
pub fn edit(
    change: &mut Change,
    edit: &dyn Fn(&mut Table) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let refuse = |why: String| {
        let message = format!("{}: {why}; it was left as it is", change.path.display());
        Refusal::new(Code::InvalidArgument, "file", message).hint("mend the file, then try again")
    };
    let crlf = change.after.contains("\r\n");
    let mut document: DocumentMut = change
        .after
        .parse()
        .map_err(|e: toml_edit::TomlError| refuse(format!("not TOML ({})", e.message())))?;
    edit(document.as_table_mut()).map_err(|refusal| refuse(refusal.message))?;
    let text = document.to_string();
    // Lines that are new end as the others do.
    change.after = if crlf { text.replace("\r\n", "\n").replace('\n', "\r\n") } else { text };
    Ok(())
}

fn wrong(name: &str) -> Refusal {
    Refusal::new(Code::InvalidArgument, "file", format!("'{name}' is not a table"))
}

/// A table inside a table, both made if they are missing. One of this name that is not of any c2c is
/// touched only with `force`.
pub fn table<'a>(
    root: &'a mut Table,
    outer: &str,
    name: &str,
    force: bool,
) -> Result<&'a mut Table, Refusal> {
    let make = || {
        let mut table = Table::new();
        table.set_implicit(true);
        Item::Table(table)
    };
    let above =
        root.entry(outer).or_insert_with(make).as_table_mut().ok_or_else(|| wrong(outer))?;
    if let Some(server) = above.get(name).filter(|server| !force && !is_known(server)) {
        return Err(foreign_server(server.to_string().trim()));
    }
    if let Some(inline) = above.get_mut(name).and_then(Item::as_inline_table_mut) {
        let table = std::mem::take(inline).into_table();
        above.insert(name, Item::Table(table));
    }
    let made = above.entry(name).or_insert_with(|| Item::Table(Table::new()));
    made.as_table_mut().ok_or_else(|| wrong(name))
}

fn is_known(server: &Item) -> bool {
    let command = server.get("command").and_then(Item::as_str);
    let args = server.get("args").and_then(Item::as_array);
    let args = args.into_iter().flatten().filter_map(|word| word.as_str());
    let is_empty = server.as_table_like().is_some_and(TableLike::is_empty);
    is_empty || super::is_server(command.into_iter().chain(args))
}

/// Removes a table from a table, and that one when nothing is left in it. One that is not of any c2c
/// goes only with `force`.
pub fn remove(root: &mut Table, outer: &str, name: &str, force: bool) -> Result<(), Refusal> {
    let Some(above) = root.get_mut(outer) else { return Ok(()) };
    let above = above.as_table_like_mut().ok_or_else(|| wrong(outer))?;
    if !force && above.get(name).is_some_and(|server| !is_known(server)) {
        return Ok(());
    }
    above.remove(name);
    if above.is_empty() {
        root.remove(outer);
    }
    Ok(())
}

/// A text.
pub fn string(text: &str) -> Item {
    value(text)
}

/// A row of texts.
pub fn strings(texts: &[&str]) -> Item {
    value(texts.iter().copied().collect::<Array>())
}

/// The environment of a server in one line: these variables, and what the user has added.
pub fn environment(rows: &[(&str, &str)], before: Option<Item>) -> Item {
    let mut table = InlineTable::new();
    rows.iter().for_each(|(name, text)| drop(table.insert(*name, (*text).into())));
    let before = before.and_then(|item| item.into_table().ok()).unwrap_or_default();
    for (name, item) in &before {
        if let (false, Some(text)) = (OURS.contains(&name), item.as_value()) {
            table.insert(name, text.clone());
        }
    }
    value(table)
}

/// `[[hooks]]` with our command at these events and no others; foreign rows stay.
pub fn hooks(
    root: &mut Table,
    events: &[&str],
    command: &str,
    timeout_s: i64,
) -> Result<(), Refusal> {
    let empty = |item: &Item| item.as_array().is_some_and(Array::is_empty);
    if events.is_empty() && !root.get("hooks").is_some_and(Item::is_array_of_tables) {
        return Ok(());
    }
    if root.get("hooks").is_some_and(empty) {
        root.remove("hooks");
    }
    let rows = root.entry("hooks").or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
    let rows = rows.as_array_of_tables_mut().ok_or_else(|| {
        Refusal::new(Code::InvalidArgument, "file", "'hooks' is not an array of tables")
    })?;
    let text =
        |row: &Table, name: &str| row.get(name).and_then(|item| item.as_str().map(str::to_owned));
    let wanted = |row: &Table| {
        let event = text(row, "event").unwrap_or_default();
        events.contains(&event.as_str()) && text(row, "command").as_deref() == Some(command)
    };
    rows.retain(|row| wanted(row) || !text(row, "command").is_some_and(|text| is_ours(&text)));
    for event in events {
        if rows.iter().any(|row| text(row, "event").as_deref() == Some(event) && wanted(row)) {
            continue;
        }
        let mut row = Table::new();
        row.insert("event", value(*event));
        row.insert("command", value(command));
        row.insert("timeout", value(timeout_s));
        rows.push(row);
    }
    if rows.is_empty() {
        root.remove("hooks");
    }
    Ok(())
}
