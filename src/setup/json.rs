//! Changes to a JSON file that preserve everything foreign in it.

use std::cell::Cell;

use jsonc_parser::ParseOptions;
use jsonc_parser::cst::{CstArray, CstInputValue, CstNode, CstObject, CstObjectProp, CstRootNode};
use serde_json::Value;

use super::file::{FileChange, Original};
use super::own_entries::{OUR_VARIABLES, foreign_entry, is_our_server};
use super::plan::SetupOptions;
use c2c_core::code::Code;
use c2c_core::decide::Rejection;

/// Name of our entry among the servers.
const SERVER: &str = "c2c";

/// A JSON object under change.
pub struct Editor {
    pub root: CstObject,
    /// Remove entries instead of setting them.
    pub undo: bool,
    /// The value before the first setup; null if it is unknown or the file did not exist.
    original: Value,
    has_removed: Cell<bool>,
}

/// Changes the JSON object in a file; the file may be missing or empty. With `undo`, a file from which
/// nothing is removed keeps every byte.
pub fn edit(
    change: &mut FileChange,
    undo: bool,
    edit: &dyn Fn(&Editor) -> Result<(), Rejection>,
) -> Result<(), Rejection> {
    let reject = |reason: String| {
        let message = format!("{}: {reason}; the file was not changed", change.path.display());
        Rejection::new(Code::InvalidArgument, "file", message)
            .hint("correct the file, then run the command again")
    };
    let text = if change.text().trim().is_empty() { "{}\n" } else { change.text() };
    let options = ParseOptions::default();
    if undo && !text.contains(SERVER) {
        // Nothing to remove. A check alone takes a fraction of the time of an editor.
        let checked = jsonc_parser::parse_to_ast(text, &Default::default(), &options);
        return checked.map(|_| ()).map_err(|e| reject(format!("not JSON ({e})")));
    }
    let root = CstRootNode::parse(text, &options).map_err(|e| reject(format!("not JSON ({e})")))?;
    let object = root.object_value().ok_or_else(|| reject("not a JSON object".into()))?;
    let original = match (&change.original, undo) {
        (Some(Original::Text(text)), true) => value_in(text),
        _ => Value::Null,
    };
    let editor = Editor { root: object, undo, original, has_removed: Cell::new(false) };
    edit(&editor).map_err(|rejection| reject(rejection.message))?;
    if undo && !editor.has_removed.get() {
        return Ok(());
    }
    let text = root.to_string();
    change.set_text(&text);
    if !undo {
        return Ok(());
    }
    let left = without_space(change.text());
    match &change.original {
        // The editor changed only the layout: restore the original one.
        Some(Original::Text(original)) if without_space(original) == left => {
            change.after = Some(original.clone());
        }
        Some(Original::Text(original)) if left == "{}" && original.trim().is_empty() => {
            change.after = Some(original.clone());
        }
        Some(Original::Text(_)) => {}
        // Setup created the file, and nothing else is in it.
        Some(Original::Absent) | None if left == "{}" => change.after = None,
        Some(Original::Absent) | None => {}
    }
    Ok(())
}

/// The members of a name. JSON permits several.
pub fn members(object: &CstObject, name: &str) -> Vec<CstObjectProp> {
    let mut members = object.properties();
    members.retain(|member| member.decoded_name().as_deref() == Some(name));
    members
}

/// The member of a name that clients use: the last one.
fn member(object: &CstObject, name: &str) -> Option<CstObjectProp> {
    members(object, name).pop()
}

fn is_null(member: &CstObjectProp) -> bool {
    member.value().is_some_and(|value| value.as_null_keyword().is_some())
}

impl Editor {
    /// States that an entry was removed.
    pub fn removed(&self) {
        self.has_removed.set(true);
    }

    /// Removes the member at a path if it is empty now and was not empty, or was missing, before the
    /// first setup.
    pub fn tidy(&self, path: &[&str]) {
        let Some((last, above)) = path.split_last() else { return };
        let parent = above
            .iter()
            .try_fold(self.root.clone(), |object, name| member(&object, name)?.object_value());
        let Some(member) = parent.and_then(|parent| member(&parent, last)) else { return };
        let is_empty = member.object_value().is_some_and(|inner| inner.properties().is_empty())
            || member.array_value().is_some_and(|inner| inner.elements().is_empty());
        if !is_empty {
            return;
        }
        match path.iter().try_fold(&self.original, |value, name| value.get(name)) {
            Some(Value::Null) => member.set_value(CstInputValue::Null),
            Some(Value::Object(rows)) if rows.is_empty() => {}
            Some(Value::Array(rows)) if rows.is_empty() => {}
            _ => member.remove(),
        }
    }
}

/// A JSON text without the white space outside of its strings and comments.
fn without_space(text: &str) -> String {
    #[derive(Clone, Copy)]
    enum Within {
        Code,
        String,
        Line,
        Block,
    }
    let mut out = String::new();
    let mut within = Within::Code;
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if matches!(within, Within::Code) && (c.is_whitespace() || c == '\u{feff}') {
            continue;
        }
        out.push(c);
        let next = rest.peek().copied();
        let (then, takes_next) = match (within, c, next) {
            (Within::Code, '"', _) => (Within::String, false),
            (Within::Code, '/', Some('/')) => (Within::Line, true),
            (Within::Code, '/', Some('*')) => (Within::Block, true),
            (Within::String, '\\', _) => (Within::String, true),
            (Within::String, '"', _) | (Within::Line, '\n', _) => (Within::Code, false),
            (Within::Block, '*', Some('/')) => (Within::Code, true),
            (within, ..) => (within, false),
        };
        out.extend(takes_next.then(|| rest.next()).flatten());
        within = then;
    }
    out
}

fn wrong_type(name: &str, kind: &str) -> Rejection {
    Rejection::new(Code::InvalidArgument, "file", format!("'{name}' is not {kind}"))
}

/// A member that is an object, created if it is missing or null.
pub fn object_or_create(parent: &CstObject, name: &str) -> Result<CstObject, Rejection> {
    let member = match member(parent, name) {
        Some(member) => member,
        None => parent.append(name, CstInputValue::Object(Vec::new())),
    };
    if is_null(&member) {
        member.set_value(CstInputValue::Object(Vec::new()));
    }
    member.object_value().ok_or_else(|| wrong_type(name, "an object"))
}

/// A member that is an array, created if it is missing or null.
pub fn array_or_create(parent: &CstObject, name: &str) -> Result<CstArray, Rejection> {
    let member = match member(parent, name) {
        Some(member) => member,
        None => parent.append(name, CstInputValue::Array(Vec::new())),
    };
    if is_null(&member) {
        member.set_value(CstInputValue::Array(Vec::new()));
    }
    member.array_value().ok_or_else(|| wrong_type(name, "an array"))
}

/// Sets the entry `c2c` of the object `parent` to a server, or removes it with `undo`. An entry that no
/// c2c wrote is left unless `force` is set: setup then fails with `invalid_argument`.
pub fn set_server(
    editor: &Editor,
    parent: &str,
    options: &SetupOptions,
    entry: &Value,
) -> Result<(), Rejection> {
    let is_replaceable = |member: &CstObjectProp| {
        let value = member.value().map(|value| parsed(&value)).unwrap_or_default();
        let is_empty = value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
        is_ours(&value) || options.force || is_empty && !editor.undo
    };
    let objects = members(&editor.root, parent).into_iter();
    let mut present: Vec<CstObjectProp> = objects
        .filter_map(|object| object.object_value())
        .flat_map(|object| members(&object, SERVER))
        .collect();
    if editor.undo {
        present.retain(is_replaceable);
        if !present.is_empty() {
            present.into_iter().for_each(CstObjectProp::remove);
            editor.removed();
            editor.tidy(&[parent]);
        }
        return Ok(());
    }
    if let Some(server) = present.iter().find(|member| !is_replaceable(member)) {
        let server = server.value().map(|value| parsed(&value)).unwrap_or_default();
        return Err(foreign_entry("MCP server", &server.to_string()));
    }
    let last = present.last().and_then(CstObjectProp::value).map(|value| parsed(&value));
    let mut entry = entry.clone();
    if let Some(last) = &last
        && last.to_string().contains("\"mcp\"")
    {
        // Keep the variables that the user has added to our entry.
        for name in ["env", "environment"] {
            for (key, value) in last[name].as_object().into_iter().flatten() {
                if !OUR_VARIABLES.contains(&key.as_str()) {
                    entry[name][key] = value.clone();
                }
            }
        }
    }
    let servers = object_or_create(&editor.root, parent)?;
    let current = member(&servers, SERVER);
    let is_current = last.as_ref() == Some(&entry) && present.len() == 1 && current.is_some();
    if is_current {
        return Ok(());
    }
    // One entry stays, in the object that the client uses: there, it is the last of all.
    if current.is_some() {
        present.pop();
    }
    present.into_iter().for_each(CstObjectProp::remove);
    match current {
        Some(member) => member.set_value(to_cst(&entry)),
        None => drop(servers.append(SERVER, to_cst(&entry))),
    }
    Ok(())
}

/// Whether a c2c wrote the entry of a server.
pub fn is_ours(server: &Value) -> bool {
    let command_line = [&server["command"], &server["args"]].into_iter();
    is_our_server(command_line.flat_map(|value| match value {
        Value::Array(rows) => rows.iter().filter_map(Value::as_str).collect(),
        other => other.as_str().into_iter().collect::<Vec<_>>(),
    }))
}

/// The value of a JSON text with comments; null if it is not JSON.
pub fn value_in(text: &str) -> Value {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let ast = jsonc_parser::parse_to_ast(text, &Default::default(), &ParseOptions::default());
    ast.ok().and_then(|ast| ast.value.map(|value| from_ast(&value))).unwrap_or_default()
}

/// The value of a node, without its layout.
pub fn parsed(node: &CstNode) -> Value {
    value_in(&node.to_string())
}

fn from_ast(value: &jsonc_parser::ast::Value<'_>) -> Value {
    use jsonc_parser::ast::Value as Ast;
    match value {
        Ast::StringLit(text) => Value::String(text.value.to_string()),
        Ast::NumberLit(number) => serde_json::from_str(number.value).unwrap_or_default(),
        Ast::BooleanLit(yes) => Value::Bool(yes.value),
        Ast::Object(object) => Value::Object(
            object
                .properties
                .iter()
                .map(|row| (row.name.as_str().to_owned(), from_ast(&row.value)))
                .collect(),
        ),
        Ast::Array(array) => Value::Array(array.elements.iter().map(from_ast).collect()),
        Ast::NullKeyword(_) => Value::Null,
    }
}

/// A value in the form that the editor inserts.
pub fn to_cst(value: &Value) -> CstInputValue {
    match value {
        Value::Null => CstInputValue::Null,
        Value::Bool(yes) => CstInputValue::Bool(*yes),
        Value::Number(number) => CstInputValue::Number(number.to_string()),
        Value::String(text) => CstInputValue::String(text.clone()),
        Value::Array(rows) => CstInputValue::Array(rows.iter().map(to_cst).collect()),
        Value::Object(rows) => CstInputValue::Object(
            rows.iter().map(|(name, value)| (name.clone(), to_cst(value))).collect(),
        ),
    }
}
