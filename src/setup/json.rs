//! Changes to a JSON file that preserve everything foreign in it.

use jsonc_parser::ParseOptions;
use jsonc_parser::cst::{CstArray, CstInputValue, CstNode, CstObject, CstRootNode};
use serde_json::Value;

use super::file::FileChange;
use super::own_entries::{OUR_VARIABLES, foreign_entry, is_our_server};
use super::plan::SetupOptions;
use c2c_core::code::Code;
use c2c_core::decide::Rejection;

/// Name of our entry among the servers.
const SERVER: &str = "c2c";

/// Changes the JSON object in a file; the file may be missing or empty.
pub fn edit(
    change: &mut FileChange,
    edit: &dyn Fn(&CstObject) -> Result<(), Rejection>,
) -> Result<(), Rejection> {
    let reject = |reason: String| {
        let message = format!("{}: {reason}; the file was not changed", change.path.display());
        Rejection::new(Code::InvalidArgument, "file", message)
            .hint("correct the file, then run the command again")
    };
    let text = if change.after.trim().is_empty() { "{}\n" } else { change.after.as_str() };
    let root = CstRootNode::parse(text, &ParseOptions::default())
        .map_err(|e| reject(format!("not JSON ({e})")))?;
    let object = root.object_value().ok_or_else(|| reject("not a JSON object".into()))?;
    edit(&object).map_err(|rejection| reject(rejection.message))?;
    change.after = root.to_string();
    match change.backup() {
        // The editor changed only the layout: restore the original one.
        Some(backup) if without_space(&backup) == without_space(&change.after) => {
            change.after = backup;
        }
        Some(_) => {}
        // Setup created the file, and nothing else is in it.
        None if without_space(&change.after) == "{}" => change.after.clear(),
        None => {}
    }
    Ok(())
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
        if matches!(within, Within::Code) && c.is_whitespace() {
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

/// A member that is an object, created if it is missing.
pub fn object_or_create(parent: &CstObject, name: &str) -> Result<CstObject, Rejection> {
    parent.object_value_or_create(name).ok_or_else(|| wrong_type(name, "an object"))
}

/// A member that is an array, created if it is missing.
pub fn array_or_create(parent: &CstObject, name: &str) -> Result<CstArray, Rejection> {
    parent.array_value_or_create(name).ok_or_else(|| wrong_type(name, "an array"))
}

/// Sets a member to a value; a member that has the value already keeps its layout.
fn set_member(parent: &CstObject, name: &str, value: &Value) {
    match parent.get(name) {
        Some(member) if member.value().is_some_and(|present| parsed(&present) == *value) => {}
        Some(member) => member.set_value(to_cst(value)),
        None => drop(parent.append(name, to_cst(value))),
    }
}

/// Sets the entry `c2c` of the object `parent` to a server, or removes it with `undo`. An entry that no
/// c2c wrote is left unless `force` is set: setup then fails with `invalid_argument`.
pub fn set_server(
    root: &CstObject,
    parent: &str,
    options: &SetupOptions,
    entry: &Value,
) -> Result<(), Rejection> {
    let present = root
        .object_value(parent)
        .and_then(|servers| servers.get(SERVER)?.value())
        .map(|node| parsed(&node));
    let foreign = present.as_ref().filter(|server| !options.force && !is_ours(server));
    if options.undo {
        if foreign.is_none() {
            remove(root, parent, SERVER);
        }
        return Ok(());
    }
    if let Some(server) = foreign {
        return Err(foreign_entry("MCP server", &server.to_string()));
    }
    let mut entry = entry.clone();
    if let Some(present) = present.filter(|server| server.to_string().contains("\"mcp\"")) {
        // Keep the variables that the user has added to our entry.
        for name in ["env", "environment"] {
            for (key, value) in present[name].as_object().into_iter().flatten() {
                if !OUR_VARIABLES.contains(&key.as_str()) {
                    entry[name][key] = value.clone();
                }
            }
        }
    }
    set_member(&object_or_create(root, parent)?, SERVER, &entry);
    Ok(())
}

fn is_ours(server: &Value) -> bool {
    let command_line = [&server["command"], &server["args"]].into_iter();
    is_our_server(command_line.flat_map(|value| match value {
        Value::Array(rows) => rows.iter().filter_map(Value::as_str).collect(),
        other => other.as_str().into_iter().collect::<Vec<_>>(),
    }))
}

/// Removes a member of the object `parent`, and `parent` from `root` if that was its last member.
fn remove(root: &CstObject, parent: &str, name: &str) {
    let Some(object) = root.object_value(parent) else { return };
    if let Some(member) = object.get(name) {
        member.remove();
    }
    remove_if_empty(root, parent);
}

/// Removes a member that is an empty object or an empty array.
pub fn remove_if_empty(parent: &CstObject, name: &str) {
    let Some(member) = parent.get(name) else { return };
    let is_empty = member.object_value().is_some_and(|inner| inner.properties().is_empty())
        || member.array_value().is_some_and(|inner| inner.elements().is_empty());
    if is_empty {
        member.remove();
    }
}

/// The value of a node, without its layout.
pub fn parsed(node: &CstNode) -> Value {
    let text = node.to_string();
    let ast = jsonc_parser::parse_to_ast(&text, &Default::default(), &ParseOptions::default());
    ast.ok().and_then(|ast| ast.value.map(|value| from_ast(&value))).unwrap_or_default()
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
