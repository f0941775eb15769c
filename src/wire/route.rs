//! Which requests does a relay know, and what must the caller show for each?

use percent_encoding::percent_decode_str;

/// What a caller must show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nothing. Where rooms are shown, only public ones.
    Public,
    /// A proof of the key inside the body.
    BodyProof,
    /// A signature of this request by a bound key.
    Peer,
    /// The same, or the signed room operation inside the body that older clients send.
    PeerOrProof,
    /// The relay's bearer token.
    Admin,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    Landing,
    Health,
    Ready,
    Metrics,
    Register,
    RotateKey,
    Heartbeat,
    List,
    Pubkey,
    Send,
    SendAll,
    PollInbox,
    PeekInbox,
    JoinRoom,
    LeaveRoom,
    SendRoom,
    RoomHistory,
    ListRooms,
    SetRoomVisibility,
    InviteRoom,
    UninviteRoom,
    Push,
    Pull,
    Gc,
    DeadLetter,
    RemoteInbox,
    AdminUnbind,
    AdminReplay,
    Mirror,
    MirrorRead,
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    pub route: Route,
    pub methods: &'static [&'static str],
    /// A last part in angle brackets stands for any one name.
    pub path: &'static str,
    pub access: Access,
}

const GET: &[&str] = &["GET"];
const POST: &[&str] = &["POST"];
/// The two older generations differ here.
const BOTH: &[&str] = &["GET", "POST"];

const fn row(
    route: Route,
    methods: &'static [&'static str],
    path: &'static str,
    access: Access,
) -> Row {
    Row { route, methods, path, access }
}

/// All routes.
pub const TABLE: &[Row] = &[
    row(Route::Landing, GET, "/", Access::Public),
    row(Route::Health, GET, "/health", Access::Public),
    row(Route::Ready, GET, "/ready", Access::Public),
    row(Route::ListRooms, BOTH, "/list_rooms", Access::Public),
    row(Route::RoomHistory, POST, "/room_history", Access::Public),
    row(Route::Register, POST, "/register", Access::BodyProof),
    row(Route::RotateKey, POST, "/rotate_key", Access::BodyProof),
    row(Route::Heartbeat, POST, "/heartbeat", Access::Peer),
    row(Route::List, BOTH, "/list", Access::Peer),
    row(Route::Pubkey, GET, "/pubkey/<alias>", Access::Peer),
    row(Route::Send, POST, "/send", Access::Peer),
    row(Route::SendAll, POST, "/send_all", Access::Peer),
    row(Route::PollInbox, POST, "/poll_inbox", Access::Peer),
    row(Route::PeekInbox, POST, "/peek_inbox", Access::Peer),
    row(Route::JoinRoom, POST, "/join_room", Access::PeerOrProof),
    row(Route::LeaveRoom, POST, "/leave_room", Access::PeerOrProof),
    row(Route::SendRoom, POST, "/send_room", Access::PeerOrProof),
    row(Route::SetRoomVisibility, POST, "/set_room_visibility", Access::PeerOrProof),
    row(Route::InviteRoom, POST, "/invite_room", Access::PeerOrProof),
    row(Route::UninviteRoom, POST, "/uninvite_room", Access::PeerOrProof),
    row(Route::Push, POST, "/push", Access::Peer),
    row(Route::Pull, POST, "/pull", Access::Peer),
    row(Route::Mirror, BOTH, "/mirror", Access::Peer),
    row(Route::MirrorRead, POST, "/mirror_read", Access::Peer),
    row(Route::Gc, BOTH, "/gc", Access::Admin),
    row(Route::DeadLetter, GET, "/dead_letter", Access::Admin),
    row(Route::RemoteInbox, GET, "/remote_inbox/<session_id>", Access::Admin),
    row(Route::AdminUnbind, POST, "/admin/unbind", Access::Admin),
    row(Route::AdminReplay, POST, "/admin/replay", Access::Admin),
    row(Route::Metrics, GET, "/metrics", Access::Admin),
];

/// A request that the relay knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub route: Route,
    pub access: Access,
    /// The name in the path, decoded; empty where there is none.
    pub parameter: String,
}

/// A request that the relay does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRoute {
    /// No such path.
    Path,
    /// The path is there, with these methods.
    Method(&'static [&'static str]),
}

impl NoRoute {
    /// Strangers learn nothing about what is there.
    pub const ACCESS: Access = Access::Peer;
}

/// Finds the route of a request; the target is the path with its query.
pub fn find(method: &str, target: &str) -> Result<Found, NoRoute> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let matching = TABLE.iter().find_map(|row| Some((row, parameter(row.path, path)?)));
    let (row, parameter) = matching.ok_or(NoRoute::Path)?;
    // Whoever may GET may ask for the head of it.
    let method = if method == "HEAD" { "GET" } else { method };
    if !row.methods.contains(&method) {
        return Err(NoRoute::Method(row.methods));
    }
    let dead_too = row.route == Route::List && include_dead(query);
    let access = if dead_too { Access::Admin } else { row.access };
    Ok(Found { route: row.route, access, parameter })
}

/// Whether a query of `/list` asks for expired leases too; the relay shows those to operators only.
/// A body may ask the same: see [`super::body::List`].
pub fn include_dead(query: &str) -> bool {
    parameters(query)
        .any(|(key, value)| key == "include_dead" && matches!(&*value, "1" | "true" | "yes"))
}

/// The parameters of a query, decoded, in their order.
pub fn parameters(query: &str) -> impl Iterator<Item = (String, String)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(&key.replace('+', " ")), decoded(&value.replace('+', " ")))
    })
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// What stands for the name in angle brackets, or nothing for a path without one.
fn parameter(pattern: &str, path: &str) -> Option<String> {
    let Some((fixed, _)) = pattern.split_once('<') else {
        return (pattern == path).then(String::new);
    };
    let name = path.strip_prefix(fixed)?;
    let one = !name.is_empty() && !name.contains('/');
    one.then(|| decoded(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_found_by_each_of_its_methods_and_by_no_other() {
        for row in TABLE {
            let path = row.path.replace("<alias>", "bob").replace("<session_id>", "bob");
            for method in ["GET", "POST", "PUT", "DELETE"] {
                let found = find(method, &path);
                if !row.methods.contains(&method) {
                    assert_eq!(found, Err(NoRoute::Method(row.methods)), "{method} {path}");
                    continue;
                }
                let parameter = if path == row.path { "" } else { "bob" }.to_owned();
                let expected = Found { route: row.route, access: row.access, parameter };
                assert_eq!(found, Ok(expected), "{method} {path}");
            }
        }
    }

    #[test]
    fn dead_peers_are_for_operators_however_the_question_is_spelt() {
        let access = |target: &str| find("GET", target).map(|found| found.access);
        for query in ["include_dead=1", "include_dead=true", "a=b&include_dead=yes"] {
            assert_eq!(access(&format!("/list?{query}")), Ok(Access::Admin), "{query}");
        }
        assert_eq!(access("/list?%69nclude_dead=%31"), Ok(Access::Admin));
        for query in ["", "include_dead=0", "include_dead", "dead=1"] {
            assert_eq!(access(&format!("/list?{query}")), Ok(Access::Peer), "{query}");
        }
    }

    #[test]
    fn only_an_exact_path_is_a_route() {
        for path in ["", "/lists", "/list/", "//list", "/Send", "/pubkey/", "/pubkey/a/b", "/gc2"] {
            assert_eq!(find("GET", path), Err(NoRoute::Path), "{path}");
        }
        assert_eq!(find("GET", "/pubkey/a%40b").map(|found| found.parameter), Ok("a@b".into()));
        assert_eq!(find("HEAD", "/health").map(|found| found.route), Ok(Route::Health));
    }
}
