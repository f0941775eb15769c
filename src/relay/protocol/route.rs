//! The routes of a relay and the credentials that each requires.

use percent_encoding::percent_decode_str;

/// The credentials that a route requires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// No credentials. Responses that list rooms contain only public ones.
    Public,
    /// A proof of key possession inside the body.
    BodyProof,
    /// A signature of the request by a key that is bound to the alias.
    Peer,
    /// Like [`Access::Peer`], or the signed room operation inside the body that older clients send.
    PeerOrProof,
    /// The relay's bearer token.
    Admin,
}

/// One operation of a relay. [`TABLE`] gives the path of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Landing page for browsers.
    Landing,
    /// Version, storage and number of peers.
    Health,
    /// Readiness check.
    Ready,
    /// Metrics in the Prometheus text format.
    Metrics,
    /// Registers sessions and binds aliases to a key.
    Register,
    /// Replaces a bound key by its successor.
    RotateKey,
    /// Renews the lease of a session.
    Heartbeat,
    /// Lists peers.
    List,
    /// Returns the key that is bound to an alias.
    Pubkey,
    /// Sends a message to one alias.
    Send,
    /// Sends a message to all agents.
    SendAll,
    /// Takes the messages of a session.
    PollInbox,
    /// Reads the messages of a session without taking them.
    PeekInbox,
    /// Joins a room.
    JoinRoom,
    /// Leaves a room.
    LeaveRoom,
    /// Posts a message to a room.
    SendRoom,
    /// Returns the last messages of a room.
    RoomHistory,
    /// Lists rooms.
    ListRooms,
    /// Changes a room's visibility.
    SetRoomVisibility,
    /// Invites a key or an alias to a room.
    InviteRoom,
    /// Revokes an invitation to a room.
    UninviteRoom,
    /// Receives a replication batch from a node.
    Push,
    /// Returns the next replication batch for a node.
    Pull,
    /// Removes expired leases and unused inboxes.
    Gc,
    /// Lists dead letters.
    DeadLetter,
    /// Returns messages of a session at a remote broker.
    RemoteInbox,
    /// Removes the binding of an alias to its key.
    AdminUnbind,
    /// Redelivers dead letters.
    AdminReplay,
    /// Lists the mirrored segments of a node, or appends to one.
    Mirror,
    /// Returns part of a mirrored segment.
    MirrorRead,
}

impl Route {
    /// The path in [`TABLE`], without the name that a client puts into it.
    pub fn path(self) -> &'static str {
        TABLE.iter().find(|spec| spec.route == self).map_or("", |spec| spec.path)
    }
}

/// Methods, path and required credentials of one route.
#[derive(Debug, Clone, Copy)]
pub struct RouteSpec {
    /// The operation.
    pub route: Route,
    /// Accepted HTTP methods.
    pub methods: &'static [&'static str],
    /// Path; a last segment in angle brackets matches any one name.
    pub path: &'static str,
    /// Required credentials.
    pub access: Access,
}

const GET: &[&str] = &["GET"];
const POST: &[&str] = &["POST"];
/// The two older generations of clients use different methods here.
const BOTH: &[&str] = &["GET", "POST"];

const fn spec(
    route: Route,
    methods: &'static [&'static str],
    path: &'static str,
    access: Access,
) -> RouteSpec {
    RouteSpec { route, methods, path, access }
}

/// All routes.
pub const TABLE: &[RouteSpec] = &[
    spec(Route::Landing, GET, "/", Access::Public),
    spec(Route::Health, GET, "/health", Access::Public),
    spec(Route::Ready, GET, "/ready", Access::Public),
    spec(Route::ListRooms, BOTH, "/list_rooms", Access::Public),
    spec(Route::RoomHistory, POST, "/room_history", Access::Public),
    spec(Route::Register, POST, "/register", Access::BodyProof),
    spec(Route::RotateKey, POST, "/rotate_key", Access::BodyProof),
    spec(Route::Heartbeat, POST, "/heartbeat", Access::Peer),
    spec(Route::List, BOTH, "/list", Access::Peer),
    spec(Route::Pubkey, GET, "/pubkey/<alias>", Access::Peer),
    spec(Route::Send, POST, "/send", Access::Peer),
    spec(Route::SendAll, POST, "/send_all", Access::Peer),
    spec(Route::PollInbox, POST, "/poll_inbox", Access::Peer),
    spec(Route::PeekInbox, POST, "/peek_inbox", Access::Peer),
    spec(Route::JoinRoom, POST, "/join_room", Access::PeerOrProof),
    spec(Route::LeaveRoom, POST, "/leave_room", Access::PeerOrProof),
    spec(Route::SendRoom, POST, "/send_room", Access::PeerOrProof),
    spec(Route::SetRoomVisibility, POST, "/set_room_visibility", Access::PeerOrProof),
    spec(Route::InviteRoom, POST, "/invite_room", Access::PeerOrProof),
    spec(Route::UninviteRoom, POST, "/uninvite_room", Access::PeerOrProof),
    spec(Route::Push, POST, "/push", Access::Peer),
    spec(Route::Pull, POST, "/pull", Access::Peer),
    spec(Route::Mirror, BOTH, "/mirror", Access::Peer),
    spec(Route::MirrorRead, POST, "/mirror_read", Access::Peer),
    spec(Route::Gc, BOTH, "/gc", Access::Admin),
    spec(Route::DeadLetter, GET, "/dead_letter", Access::Admin),
    spec(Route::RemoteInbox, GET, "/remote_inbox/<session_id>", Access::Admin),
    spec(Route::AdminUnbind, POST, "/admin/unbind", Access::Admin),
    spec(Route::AdminReplay, POST, "/admin/replay", Access::Admin),
    spec(Route::Metrics, GET, "/metrics", Access::Admin),
];

/// The route that matched a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteMatch {
    /// The operation.
    pub route: Route,
    /// Credentials required for this request.
    pub access: Access,
    /// The name in the path, percent-decoded; empty for a path without one.
    pub parameter: String,
}

/// Why no route matched a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRoute {
    /// The path does not exist.
    Path,
    /// The path exists, but only with these methods.
    Method(&'static [&'static str]),
}

impl NoRoute {
    /// Credentials required to learn that a route does not exist, so that strangers cannot probe.
    pub const ACCESS: Access = Access::Peer;
}

/// Finds the route of a request. `target` is the path with its query.
pub fn find(method: &str, target: &str) -> Result<RouteMatch, NoRoute> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let matching = TABLE.iter().find_map(|spec| Some((spec, parameter(spec.path, path)?)));
    let (spec, parameter) = matching.ok_or(NoRoute::Path)?;
    // HEAD is allowed wherever GET is.
    let method = if method == "HEAD" { "GET" } else { method };
    if !spec.methods.contains(&method) {
        return Err(NoRoute::Method(spec.methods));
    }
    let lists_dead_peers = spec.route == Route::List && include_dead(query);
    let access = if lists_dead_peers { Access::Admin } else { spec.access };
    Ok(RouteMatch { route: spec.route, access, parameter })
}

/// Whether the query of `/list` includes expired leases, which only operators may see.
///
/// The body of a POST may request the same with its key `include_dead`.
pub fn include_dead(query: &str) -> bool {
    parameters(query)
        .any(|(key, value)| key == "include_dead" && matches!(&*value, "1" | "true" | "yes"))
}

/// The decoded parameters of a query, in order of appearance.
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

/// Matches a path against a pattern. Returns the decoded name that the angle brackets stand for,
/// which is empty for a pattern without them, or `None` if the path does not match.
fn parameter(pattern: &str, path: &str) -> Option<String> {
    let Some((fixed, _)) = pattern.split_once('<') else {
        return (pattern == path).then(String::new);
    };
    let name = path.strip_prefix(fixed)?;
    let is_one_segment = !name.is_empty() && !name.contains('/');
    is_one_segment.then(|| decoded(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_matches_exactly_its_own_methods() {
        for spec in TABLE {
            let path = spec.path.replace("<alias>", "bob").replace("<session_id>", "bob");
            for method in ["GET", "POST", "PUT", "DELETE"] {
                let found = find(method, &path);
                if !spec.methods.contains(&method) {
                    assert_eq!(found, Err(NoRoute::Method(spec.methods)), "{method} {path}");
                    continue;
                }
                let parameter = if path == spec.path { "" } else { "bob" }.to_owned();
                let expected = RouteMatch { route: spec.route, access: spec.access, parameter };
                assert_eq!(found, Ok(expected), "{method} {path}");
            }
        }
    }

    #[test]
    fn listing_dead_peers_needs_admin_access_in_every_spelling() {
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
    fn only_exact_paths_match() {
        for path in ["", "/lists", "/list/", "//list", "/Send", "/pubkey/", "/pubkey/a/b", "/gc2"] {
            assert_eq!(find("GET", path), Err(NoRoute::Path), "{path}");
        }
        assert_eq!(find("GET", "/pubkey/a%40b").map(|found| found.parameter), Ok("a@b".into()));
        assert_eq!(find("HEAD", "/health").map(|found| found.route), Ok(Route::Health));
    }
}
