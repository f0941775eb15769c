//! Presentation: envelopes, JSON views, terminal text and diagnostics.

pub mod diagnostics;
pub mod envelope;
pub mod json_view;
pub mod shell;
