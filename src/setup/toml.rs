//! Changes to a TOML file that preserve everything foreign in it.

use toml_edit::{
    Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, TableLike, Value, value,
};

use super::file::{FileChange, Original};
use super::own_entries::{OUR_VARIABLES, foreign_entry, is_our_hook, is_our_server};
use c2c_core::code::Code;
use c2c_core::decide::Rejection;

/// Changes the root table of a file; the file may be missing or empty. With `undo`, a file of which
/// nothing is left but what setup wrote is removed.
pub fn edit(
    change: &mut FileChange,
    undo: bool,
    edit: &dyn Fn(&mut Table) -> Result<(), Rejection>,
) -> Result<(), Rejection> {
    let reject = |reason: String| {
        let message = format!("{}: {reason}; the file was not changed", change.path.display());
        Rejection::new(Code::InvalidArgument, "file", message)
            .hint("correct the file, then run the command again")
    };
    let mut document: DocumentMut = change
        .text()
        .parse()
        .map_err(|e: toml_edit::TomlError| reject(format!("not TOML ({})", e.message())))?;
    let unchanged = document.to_string();
    edit(document.as_table_mut()).map_err(|rejection| reject(rejection.message))?;
    let text = document.to_string();
    if text == unchanged {
        return Ok(());
    }
    change.set_text(&text);
    if !undo {
        return Ok(());
    }
    match &change.original {
        // The editor changed only the blank lines: restore the original ones.
        Some(Original::Text(original)) if words(original) == words(change.text()) => {
            change.after = Some(original.clone());
        }
        Some(Original::Text(_)) => {}
        Some(Original::Absent) | None if change.text().trim().is_empty() => change.after = None,
        Some(Original::Absent) | None => {}
    }
    Ok(())
}

/// A text without a byte order mark.
pub fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// The lines of a text that are not blank.
fn words(text: &str) -> Vec<&str> {
    without_mark(text).lines().map(str::trim_end).filter(|line| !line.is_empty()).collect()
}

fn wrong_type(name: &str) -> Rejection {
    Rejection::new(Code::InvalidArgument, "file", format!("'{name}' is not a table"))
}

/// The table `outer.name`, created if it is missing: an inline table if `outer` is one. Rejects a
/// table that no c2c wrote unless `force` is set.
pub fn table_or_create<'a>(
    root: &'a mut Table,
    outer: &str,
    name: &str,
    force: bool,
) -> Result<&'a mut dyn TableLike, Rejection> {
    let implicit = || {
        let mut table = Table::new();
        table.set_implicit(true);
        Item::Table(table)
    };
    let parent = root.entry(outer).or_insert_with(implicit);
    let is_inline = parent.is_inline_table();
    let parent = parent.as_table_like_mut().ok_or_else(|| wrong_type(outer))?;
    if let Some(server) = parent.get(name).filter(|server| !force && !is_ours(server)) {
        return Err(foreign_entry("MCP server", server.to_string().trim()));
    }
    let present = parent.get_mut(name).map(std::mem::take);
    let table = match present {
        Some(Item::Value(Value::InlineTable(inline))) if !is_inline => {
            Item::Table(inline.into_table())
        }
        Some(item) if item.is_table_like() => item,
        Some(Item::None) | None if is_inline => value(InlineTable::new()),
        Some(Item::None) | None => Item::Table(Table::new()),
        Some(_) if force && is_inline => value(InlineTable::new()),
        Some(_) if force => Item::Table(Table::new()),
        Some(_) => return Err(wrong_type(name)),
    };
    parent.insert(name, table);
    let table = parent.get_mut(name).and_then(Item::as_table_like_mut);
    table.ok_or_else(|| wrong_type(name))
}

fn is_ours(server: &Item) -> bool {
    let command = server.get("command").and_then(Item::as_str);
    let args = server.get("args").and_then(Item::as_array);
    let args = args.into_iter().flatten().filter_map(|word| word.as_str());
    let is_empty = server.as_table_like().is_some_and(TableLike::is_empty);
    is_empty || is_our_server(command.into_iter().chain(args))
}

/// Removes the table `outer.name`, and `outer` if that leaves it empty. A table that no c2c wrote is
/// removed only with `force`.
pub fn remove(root: &mut Table, outer: &str, name: &str, force: bool) -> Result<(), Rejection> {
    let Some(item) = root.get_mut(outer) else { return Ok(()) };
    let parent = item.as_table_like_mut().ok_or_else(|| wrong_type(outer))?;
    if !force && parent.get(name).is_some_and(|server| !is_ours(server)) {
        return Ok(());
    }
    if parent.remove(name).is_some() && parent.is_empty() {
        root.remove(outer);
    }
    Ok(())
}

/// The value of an item; null if it is missing or has no counterpart in JSON.
pub fn to_json(item: Option<&Item>) -> serde_json::Value {
    use serde_json::{Map, Value as Json};
    let Some(item) = item else { return Json::Null };
    if let Some(table) = item.as_table_like() {
        let rows = table.iter().map(|(name, item)| (name.to_owned(), to_json(Some(item))));
        return Json::Object(rows.collect::<Map<_, _>>());
    }
    match item.as_value() {
        Some(Value::String(text)) => text.value().as_str().into(),
        Some(Value::Boolean(yes)) => (*yes.value()).into(),
        Some(Value::Integer(number)) => (*number.value()).into(),
        Some(Value::Array(rows)) => {
            let rows = rows.iter().map(|row| to_json(Some(&Item::Value(row.clone()))));
            Json::Array(rows.collect())
        }
        _ => Json::Null,
    }
}

/// A string value.
pub fn string(text: &str) -> Item {
    value(text)
}

/// An array of strings.
pub fn strings(texts: &[&str]) -> Item {
    value(texts.iter().copied().collect::<Array>())
}

/// The environment of a server as an inline table: these variables, and those that the user has added.
pub fn environment(variables: &[(&str, &str)], present: Option<Item>) -> Item {
    let mut table = InlineTable::new();
    variables.iter().for_each(|(name, text)| drop(table.insert(*name, (*text).into())));
    let present = present.and_then(|item| item.into_table().ok()).unwrap_or_default();
    for (name, item) in &present {
        if let (false, Some(text)) = (OUR_VARIABLES.contains(&name), item.as_value()) {
            table.insert(name, text.clone());
        }
    }
    value(table)
}

/// Whether a hook runs our program at an event.
pub fn has_hook(root: &Table, event: &str) -> bool {
    let rows = root.get("hooks").and_then(Item::as_array_of_tables);
    rows.into_iter().flatten().any(|row| {
        let text = |name: &str| row.get(name).and_then(Item::as_str).unwrap_or_default();
        text("event") == event && is_our_hook(text("command"))
    })
}

/// Sets our command in `[[hooks]]` at these events and at no others; foreign entries stay.
pub fn set_hooks(
    root: &mut Table,
    events: &[&str],
    command: &str,
    timeout_s: i64,
) -> Result<(), Rejection> {
    let is_empty = |item: &Item| item.as_array().is_some_and(Array::is_empty);
    if events.is_empty() && !root.get("hooks").is_some_and(Item::is_array_of_tables) {
        return Ok(());
    }
    if root.get("hooks").is_some_and(is_empty) {
        root.remove("hooks");
    }
    let hooks = root.entry("hooks").or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
    let rows = hooks.as_array_of_tables_mut().ok_or_else(|| {
        Rejection::new(Code::InvalidArgument, "file", "'hooks' is not an array of tables")
    })?;
    let text =
        |row: &Table, name: &str| row.get(name).and_then(|item| item.as_str().map(str::to_owned));
    let is_current = |row: &Table| {
        let event = text(row, "event").unwrap_or_default();
        events.contains(&event.as_str()) && text(row, "command").as_deref() == Some(command)
    };
    let count = rows.len();
    rows.retain(|row| {
        is_current(row) || !text(row, "command").is_some_and(|text| is_our_hook(&text))
    });
    let has_removed = rows.len() < count;
    for event in events {
        if rows.iter().any(|row| text(row, "event").as_deref() == Some(event) && is_current(row)) {
            continue;
        }
        let mut row = Table::new();
        row.insert("event", value(*event));
        row.insert("command", value(command));
        row.insert("timeout", value(timeout_s));
        rows.push(row);
    }
    if has_removed && rows.is_empty() {
        root.remove("hooks");
    }
    Ok(())
}
