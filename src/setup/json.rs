//! How is a JSON file changed without touching what is foreign in it?

use jsonc_parser::ParseOptions;
use jsonc_parser::cst::{CstArray, CstInputValue, CstNode, CstObject, CstRootNode};
use serde_json::Value;

use super::{Change, OURS, Wish, foreign_server, is_server};
use crate::code::Code;
use crate::decide::Refusal;

/// The name of our entry among the servers.
const SERVER: &str = "c2c";

/// Changes the object that a file holds; the file may be missing or empty.
pub fn edit(
    change: &mut Change,
    edit: &dyn Fn(&CstObject) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let refuse = |why: String| {
        let message = format!("{}: {why}; it was left as it is", change.path.display());
        Refusal::new(Code::InvalidArgument, "file", message).hint("mend the file, then try again")
    };
    let text = if change.after.trim().is_empty() { "{}\n" } else { change.after.as_str() };
    let root = CstRootNode::parse(text, &ParseOptions::default())
        .map_err(|e| refuse(format!("not JSON ({e})")))?;
    let object = root.object_value().ok_or_else(|| refuse("not a JSON object".into()))?;
    edit(&object).map_err(|refusal| refuse(refusal.message))?;
    change.after = root.to_string();
    match change.kept() {
        // What the editor laid out anew and nobody changed looks again as it did.
        Some(kept) if squeezed(&kept) == squeezed(&change.after) => change.after = kept,
        Some(_) => {}
        // A file of which nothing is left was ours.
        None if squeezed(&change.after) == "{}" => change.after.clear(),
        None => {}
    }
    Ok(())
}

/// A text without the white space outside of its strings and comments.
fn squeezed(text: &str) -> String {
    #[derive(Clone, Copy)]
    enum In {
        Code,
        String,
        Line,
        Block,
    }
    let (mut out, mut place) = (String::new(), In::Code);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if matches!(place, In::Code) && c.is_whitespace() {
            continue;
        }
        out.push(c);
        let next = rest.peek().copied();
        let (then, takes_next) = match (place, c, next) {
            (In::Code, '"', _) => (In::String, false),
            (In::Code, '/', Some('/')) => (In::Line, true),
            (In::Code, '/', Some('*')) => (In::Block, true),
            (In::String, '\\', _) => (In::String, true),
            (In::String, '"', _) | (In::Line, '\n', _) => (In::Code, false),
            (In::Block, '*', Some('/')) => (In::Code, true),
            (place, ..) => (place, false),
        };
        out.extend(takes_next.then(|| rest.next()).flatten());
        place = then;
    }
    out
}

fn wrong(name: &str, kind: &str) -> Refusal {
    Refusal::new(Code::InvalidArgument, "file", format!("'{name}' is not {kind}"))
}

/// An object inside, made if it is missing.
pub fn object(parent: &CstObject, name: &str) -> Result<CstObject, Refusal> {
    parent.object_value_or_create(name).ok_or_else(|| wrong(name, "an object"))
}

/// An array inside, made if it is missing.
pub fn array(parent: &CstObject, name: &str) -> Result<CstArray, Refusal> {
    parent.array_value_or_create(name).ok_or_else(|| wrong(name, "an array"))
}

/// Sets a member to a value; one that has it already keeps its looks.
fn set(parent: &CstObject, name: &str, value: &Value) {
    match parent.get(name) {
        Some(found) if found.value().is_some_and(|now| value_of(&now) == *value) => {}
        Some(found) => found.set_value(input(value)),
        None => drop(parent.append(name, input(value))),
    }
}

/// Sets the entry `c2c` under `parent` to a server, or takes it away. One that is not of any c2c is
/// touched only by force.
pub fn server(above: &CstObject, parent: &str, wish: &Wish, entry: &Value) -> Result<(), Refusal> {
    let found = above.object_value(parent).and_then(|inner| inner.get(SERVER)?.value());
    let found = found.map(|node| value_of(&node));
    let foreign = found.as_ref().filter(|server| !wish.force && !is_known(server));
    if wish.undo {
        if foreign.is_none() {
            remove(above, parent, SERVER);
        }
        return Ok(());
    }
    if let Some(server) = foreign {
        return Err(foreign_server(&server.to_string()));
    }
    let mut entry = entry.clone();
    if let Some(found) = found.filter(|found| found.to_string().contains("\"mcp\"")) {
        // What the user has added to an entry of ours stays.
        for name in ["env", "environment"] {
            for (key, value) in found[name].as_object().into_iter().flatten() {
                if !OURS.contains(&key.as_str()) {
                    entry[name][key] = value.clone();
                }
            }
        }
    }
    set(&object(above, parent)?, SERVER, &entry);
    Ok(())
}

fn is_known(server: &Value) -> bool {
    let words = [&server["command"], &server["args"]];
    let words = words.into_iter().flat_map(|value| match value {
        Value::Array(rows) => rows.iter().filter_map(Value::as_str).collect(),
        other => other.as_str().into_iter().collect::<Vec<_>>(),
    });
    is_server(words)
}

/// Removes a member, and `parent` itself from `above` when it was the last one.
fn remove(above: &CstObject, parent: &str, name: &str) {
    let Some(inner) = above.object_value(parent) else { return };
    if let Some(found) = inner.get(name) {
        found.remove();
    }
    drop_if_empty(above, parent);
}

/// Removes an object or an array that holds nothing any more.
pub fn drop_if_empty(parent: &CstObject, name: &str) {
    let Some(found) = parent.get(name) else { return };
    let empty = found.object_value().is_some_and(|inner| inner.properties().is_empty())
        || found.array_value().is_some_and(|inner| inner.elements().is_empty());
    if empty {
        found.remove();
    }
}

/// What a node says, without its looks.
pub fn value_of(node: &CstNode) -> Value {
    let text = node.to_string();
    let parsed = jsonc_parser::parse_to_ast(&text, &Default::default(), &ParseOptions::default());
    parsed.ok().and_then(|found| found.value.map(|value| plain(&value))).unwrap_or_default()
}

fn plain(value: &jsonc_parser::ast::Value<'_>) -> Value {
    use jsonc_parser::ast::Value as Ast;
    match value {
        Ast::StringLit(text) => Value::String(text.value.to_string()),
        Ast::NumberLit(number) => serde_json::from_str(number.value).unwrap_or_default(),
        Ast::BooleanLit(yes) => Value::Bool(yes.value),
        Ast::Object(object) => Value::Object(
            object
                .properties
                .iter()
                .map(|row| (row.name.as_str().to_owned(), plain(&row.value)))
                .collect(),
        ),
        Ast::Array(array) => Value::Array(array.elements.iter().map(plain).collect()),
        Ast::NullKeyword(_) => Value::Null,
    }
}

/// A value as the editor takes it.
pub fn input(value: &Value) -> CstInputValue {
    match value {
        Value::Null => CstInputValue::Null,
        Value::Bool(yes) => CstInputValue::Bool(*yes),
        Value::Number(number) => CstInputValue::Number(number.to_string()),
        Value::String(text) => CstInputValue::String(text.clone()),
        Value::Array(rows) => CstInputValue::Array(rows.iter().map(input).collect()),
        Value::Object(rows) => CstInputValue::Object(
            rows.iter().map(|(name, value)| (name.clone(), input(value))).collect(),
        ),
    }
}
