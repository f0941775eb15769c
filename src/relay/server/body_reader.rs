//! Reading of request bodies within the limits on time, size and shared memory.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Incoming};
use tokio::sync::Semaphore;

use super::answer::RelayAnswer;
use c2c_core::code::Code;
use c2c_core::decide::Rejection;
use c2c_core::limits::{
    RELAY_BODY_WAIT_S, RELAY_KNOWN_SENDER_BYTES, RELAY_REQUEST_BYTES_MAX,
    RELAY_UNKNOWN_SENDER_BYTES,
};

/// Bodies up to this size need no share of the memory: they cost no more than the connection, KiB.
const SMALL_BODY_KIB: u32 = 64;

/// The memory for bodies that are being received. Clients without a known alias share a part of
/// their own, so that they cannot take the memory of the others.
#[derive(Clone)]
pub struct BodyReader {
    /// Free KiB for clients that name no known alias.
    unknown_kib: Arc<Semaphore>,
    /// Free KiB for clients that name a known alias.
    known_kib: Arc<Semaphore>,
}

impl BodyReader {
    /// A reader with all of its memory free.
    pub fn new() -> Self {
        let kib = |bytes: usize| Arc::new(Semaphore::new(bytes / 1024));
        Self {
            unknown_kib: kib(RELAY_UNKNOWN_SENDER_BYTES),
            known_kib: kib(RELAY_KNOWN_SENDER_BYTES),
        }
    }

    /// Reads a whole body, or returns the answer to a late or too large one. A body that announces a
    /// size above the limit is not read at all.
    pub async fn read(&self, body: Incoming, is_known: bool) -> Result<Vec<u8>, RelayAnswer> {
        let size = body.size_hint();
        if size.lower() > RELAY_REQUEST_BYTES_MAX as u64 {
            return Err(too_large());
        }
        let size_max = size.upper().map_or(RELAY_REQUEST_BYTES_MAX, |bytes| bytes as usize);
        let free_kib = if is_known { &self.known_kib } else { &self.unknown_kib };
        let whole = async {
            let kib = (size_max / 1024) as u32;
            let _permit =
                if kib > SMALL_BODY_KIB { free_kib.acquire_many(kib).await.ok() } else { None };
            Limited::new(body, size_max.min(RELAY_REQUEST_BYTES_MAX)).collect().await
        };
        match tokio::time::timeout(Duration::from_secs(RELAY_BODY_WAIT_S), whole).await {
            Ok(Ok(body)) => Ok(body.to_bytes().to_vec()),
            Ok(Err(_)) => Err(too_large()),
            Err(_) => Err(Rejection::new(Code::Timeout, "", "the request took too long").into()),
        }
    }
}

fn too_large() -> RelayAnswer {
    let message =
        format!("the request body is incomplete or exceeds {RELAY_REQUEST_BYTES_MAX} bytes");
    Rejection::new(Code::BodyTooLarge, "", message).into()
}
