//! Checks of the source tree: layers, wording, sizes, and documents against the code.

mod documents;
mod imports;
mod layers;
mod sizes;
mod source;
mod words;

crate::harness::tests! {
    modules: documents, imports, layers, sizes, source, words;
}
