//! Tests of signatures, keys and the `Authorization` header.

use super::super::cursor::from_hex;
use super::*;

const KEY: &str = "A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg";
const NONCE: &str = "q6urq6urq6urq6urq6urqw";
const TS: &str = "1770000000.250000";
const RFC3339: &str = "2026-02-02T02:40:00Z";
const MOMENT: Moment<'_> = Moment { ts: RFC3339, nonce: NONCE };
const BODY: &[u8] = br#"{"node_id":"n1","session_id":"s1"}"#;

fn key() -> SecretKey {
    let mut seed = [0; 32];
    seed.iter_mut().enumerate().for_each(|(at, byte)| *byte = at as u8);
    SecretKey::from_seed(&seed)
}

fn request<'a>(method: &'a str, target: &'a str, body: &'a [u8]) -> SignedRequest<'a> {
    SignedRequest { method, target, body, ts: TS, nonce: NONCE }
}

/// The published vectors: signed text and signature.
fn vectors() -> Vec<(SignedText, &'static str)> {
    let url = "http://127.0.0.1:7331";
    let all = [
        (
            request("POST", "/heartbeat", BODY).text(),
            "pJA6OqMMiI68Qh496VwcW5dK_vivtCxY1TQK3kVi3tKGqCE3bDGKWpDK4b-5aa9nnlW_Mce6ntVmE8RzCH2DCg",
        ),
        (
            request("GET", "/list", b"").text(),
            "hdkPUjThMj25BryT6PosptoREH9WDK70M20ytGltfewF8V4Tu-kCYidQLb29ZJOrRXjCm913W0HU8cIs20BcDA",
        ),
        (
            register("alice", url, KEY, MOMENT),
            "y0ArJulPw7I7ak2y_7TOZO02gByn1ms_Px5EGO3EizdfXMgafLI1HhcZx3HUtWRj2ZdtNhIxqI_xibbK2E6GBg",
        ),
        (
            room_op(RoomOp::Join, "swarm-lounge", "alice", KEY, MOMENT),
            "T2kGN4i15S3aH1bA_l4ZWdNtozJKF76cw4kUcU2tSjSDeCbZeLeZybYzXvR90q8asX-gkszKaP8jwOMah5lyDw",
        ),
        (
            room_send("swarm-lounge", "alice", KEY, "none", "hello", MOMENT),
            "NFokUiMsspnxWZVxsrunKvbrnQ4W-vsk5IhqgCWnFa2-ZYzJ4LPTG8cWqCvyNJJM9w7mqUb8G0_uSBtZFFhSBw",
        ),
    ];
    all.map(|(text, signature)| (text.expect("a text"), signature)).to_vec()
}

#[test]
fn published_signature_vectors_are_reproduced() {
    assert_eq!(key().public().to_string(), KEY);
    assert_eq!(encode(&[0xab; 16]), NONCE);
    assert_eq!(body_hash(BODY), "5EGZ41zcfAvi1wEKCLgYkKaqyEnI7Qid8Dvdb1LKfJY");
    let public = PublicKey::parse(KEY).expect("a key");
    for (text, signature) in vectors() {
        assert_eq!(key().sign(&text), signature, "{text:?}");
        assert_eq!(public.verify(&text, signature), Ok(()), "{text:?}");
    }
}

#[test]
fn a_signature_is_valid_for_one_text_only() {
    let public = key().public();
    for (at, (text, _)) in vectors().iter().enumerate() {
        for (other, (_, signature)) in vectors().iter().enumerate() {
            assert_eq!(public.verify(text, signature).is_ok(), at == other);
        }
    }
}

#[test]
fn a_flipped_bit_invalidates_a_signature() {
    let (public, (text, signature)) = (key().public(), vectors().remove(0));
    let good: [u8; 64] = decode("signature", signature).expect("64 bytes");
    for bit in 0..512 {
        let mut bad = good;
        bad[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(public.verify(&text, &encode(&bad)), Err(SignError::Mismatch), "bit {bit}");
    }
    assert_eq!(public.verify(&text, ""), Err(SignError::Encoding("the signature")));
    let padded = format!("{signature}==");
    assert_eq!(public.verify(&text, &padded), Err(SignError::Encoding("the signature")));
}

#[test]
fn keys_of_small_order_are_rejected() {
    // The eight points of small order, and their two non-canonical encodings.
    let weak = [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ];
    for hex in weak {
        let bytes = from_hex::<32>(hex).expect("hex");
        assert_eq!(PublicKey::parse(&encode(&bytes)), Err(SignError::Key), "{hex}");
    }
    for bad in ["", "AAAA", &KEY[1..], &format!("{KEY}=")] {
        assert!(PublicKey::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn headers_are_parsed_in_any_order_and_malformed_ones_are_rejected() {
    let header = AuthorizationHeader {
        alias: "alice".into(),
        ts: TS.into(),
        nonce: NONCE.into(),
        sig: vectors()[0].1.into(),
    };
    assert_eq!(AuthorizationHeader::parse(&header.to_string()), Ok(header.clone()));
    let shuffled = "ed25519 sig=s , x=y,nonce=n=n, ts = 1 ,alias=a";
    let read = AuthorizationHeader::parse(shuffled).expect("a header");
    assert_eq!((&*read.alias, &*read.ts, &*read.nonce, &*read.sig), ("a", "1", "n=n", "s"));
    for bad in [
        "",
        "Ed25519",
        "Bearer x",
        "Ed25519 alias=a,ts=1,nonce=n",
        "Ed25519 alias=a,ts=1,nonce=n,sig=s,alias=b",
        "Ed25519 alias=a,ts=1,nonce=n,sig=s,",
        "Ed25519 alias",
    ] {
        assert_eq!(AuthorizationHeader::parse(bad), Err(SignError::Header), "{bad}");
    }
    assert!(
        AuthorizationHeader::is_claimed("Ed25519 nonsense")
            && !AuthorizationHeader::is_claimed("Bearer Ed25519")
    );
}

#[test]
fn equivalent_requests_have_the_same_signed_text() {
    let text = |target| request("get", target, b"").text().expect("a text");
    assert_eq!(text("/list?b=2&a=1"), text("/list?a=1&b=2"));
    assert_eq!(text("/list?a=%2f"), text("/list?%61=/"));
    assert_ne!(text("/list?a=1"), text("/list?a=2"));
    assert_ne!(text("/list?a=1"), text("/list"));
    let base = |url| register("alice", url, KEY, MOMENT);
    assert_eq!(base("HTTP://Relay.Example:7331/"), base("http://relay.example:7331"));
}

#[test]
fn fields_that_contain_the_separator_are_rejected() {
    let forged = Moment { ts: "t\u{1f}n", nonce: "x" };
    assert_eq!(register("a", "u", KEY, forged), Err(SignError::Field));
    assert_eq!(room_op(RoomOp::Join, "r\u{1f}a", "b", KEY, MOMENT), Err(SignError::Field));
}

#[test]
fn signing_times_outside_the_window_are_rejected() {
    let now_us = 1_770_000_000_000_000;
    let at = |offset_s: i64| (1_770_000_000 + offset_s).to_string();
    for (window, past, future) in [(REQUEST_WINDOW, 30, 5), (PROOF_WINDOW, 120, 30)] {
        assert_eq!(window.check(&at(-past), now_us), Ok(()));
        assert_eq!(window.check(&at(future), now_us), Ok(()));
        let (old, early) = (past as u64 + 1, future as u64 + 1);
        assert_eq!(window.check(&at(-past - 1), now_us), Err(SignError::Past(old)));
        assert_eq!(window.check(&at(future + 1), now_us), Err(SignError::Future(early)));
    }
    assert_eq!(PROOF_WINDOW.check(RFC3339, now_us), Ok(()));
    assert_eq!(PROOF_WINDOW.check("soon", now_us), Err(SignError::Time));
}
