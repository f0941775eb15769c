//! The body of a message to send, from the command line or standard input.

use std::io::Read;

use crate::error::Failure;
use c2c_core::code::Code;
use c2c_core::decide::Rejection;
use c2c_core::limits::BODY_BYTES_MAX;

/// Joins the arguments with spaces; without arguments, or with `-` alone, reads standard input.
///
/// Fails with `body_too_large`, `invalid_utf8`, or `invalid_argument` if standard input cannot be
/// read.
pub fn message_body(arguments: &[String]) -> Result<String, Failure> {
    let is_on_stdin = arguments.is_empty() || (arguments.len() == 1 && arguments[0] == "-");
    if is_on_stdin { read_stdin() } else { Ok(arguments.join(" ")) }
}

fn read_stdin() -> Result<String, Failure> {
    let mut bytes = Vec::new();
    // One byte more for the final newline, and one to detect a body that is too large.
    let limit = BODY_BYTES_MAX as u64 + 2;
    std::io::stdin().lock().take(limit).read_to_end(&mut bytes).map_err(|e| {
        Rejection::new(Code::InvalidArgument, "content", format!("cannot read standard input: {e}"))
    })?;
    if bytes.len() as u64 == limit {
        let message = format!("the message is larger than {BODY_BYTES_MAX} bytes");
        return Err(Rejection::new(Code::BodyTooLarge, "content", message)
            .hint("send the path of a file, or split the message")
            .into());
    }
    let mut text = String::from_utf8(bytes).map_err(|e| {
        let offset = e.utf8_error().valid_up_to();
        let message = format!("standard input is not valid UTF-8 at byte {offset}");
        Rejection::new(Code::InvalidUtf8, "content", message).hint("encode the text as UTF-8")
    })?;
    // The newline that a shell appends is not part of the message.
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(text)
}
