//! How does the server run?

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rmcp::handler::server::ServerHandler;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, DiscoverRequestMethod,
    DiscoverResult, ErrorData, Implementation, JsonObject, ListResourcesResult, ListToolsResult,
    PaginatedRequestParams, ReadResourceRequestParams, ReadResourceResponse, ReadResourceResult,
    ServerCapabilities, ServerConfig, SubscribeRequestParams, SubscriptionFilter,
    UnsubscribeRequestParams,
};
use rmcp::service::{
    NotificationContext, RequestContext, RoleServer, ServiceExt, SubscriptionContext,
};
use rmcp::transport::async_rw::AsyncRwTransport;
use serde_json::Value;
use tokio::task::{AbortHandle, JoinSet};

use super::call::{Answer, Arguments, call};
use super::push::Ear;
use super::transport::{Acking, Claims, expect};
use super::wait::Wait;
use super::{INSTRUCTIONS, idle, push, tools};
use crate::broker::{Broker, liveness};
use crate::decide::{Actor, CODEX, Command, Reply};
use crate::diagnosis::note;
use crate::failure::Failure;

struct Inside {
    broker: Broker,
    actor: Actor,
}

/// The broker and who the client is, for handlers and transport.
#[derive(Clone)]
pub struct Shared(Arc<Mutex<Inside>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who the client is now.
    pub fn actor(&self) -> Actor {
        self.lock().actor.clone()
    }

    /// Does something with the broker as the client.
    pub fn with<T>(&self, work: impl FnOnce(&mut Broker, &Actor) -> T) -> T {
        let inside = &mut *self.lock();
        work(&mut inside.broker, &inside.actor)
    }

    /// Ends a claim as shown. A failure leaves it to be repeated with its mark, never lost.
    pub fn ack(&self, claim: &str, level: &str) {
        let inside = &mut *self.lock();
        if let Err(failure) = inside.broker.ack(&inside.actor, claim, level) {
            note(&format!("c2c: ack of {claim}: {}", failure.message()));
        }
    }

    /// Ends a claim as not shown.
    pub fn give_back(&self, claim: &str, reason: &str) {
        let inside = &mut *self.lock();
        if let Err(failure) = inside.broker.give_back(&inside.actor, claim, reason) {
            note(&format!("c2c: return of {claim}: {}", failure.message()));
        }
    }
}

struct Server {
    shared: Shared,
    claims: Claims,
    root: PathBuf,
    all_tools: bool,
    greeting: String,
    subscriptions: Mutex<HashMap<String, AbortHandle>>,
    /// Sessions that named themselves with a call.
    threads: Mutex<HashSet<String>>,
}

/// Serves until the client closes the pipe.
pub fn serve(root: &Path, actor: Actor) -> io::Result<()> {
    let shared = Shared(Arc::new(Mutex::new(Inside { broker: Broker::open(root), actor })));
    let greeting = greet(&shared);
    let claims = Claims::default();
    let server = Server {
        shared: shared.clone(),
        claims: Arc::clone(&claims),
        root: root.to_owned(),
        all_tools: std::env::var("C2C_MCP_TOOLS").is_ok_and(|profile| profile == "all"),
        greeting,
        subscriptions: Mutex::default(),
        threads: Mutex::default(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let served: io::Result<()> = runtime.block_on(async move {
        let (read, write) = rmcp::transport::io::stdio_pipes();
        let transport = Acking::new(AsyncRwTransport::new_server(read, write), claims, shared);
        match server.serve(transport).await {
            Ok(running) => running.waiting().await.map(|_| ()).map_err(io::Error::other),
            // The client went away before it said what it is: nothing to serve, nothing wrong.
            Err(_) => Ok(()),
        }
    });
    runtime.shutdown_background();
    served
}

/// Registers the alias of the environment and joins its rooms; what is to be said about that.
fn greet(shared: &Shared) -> String {
    let inside = &mut *shared.lock();
    if inside.actor.client_type.as_deref() == Some(CODEX) && inside.actor.session_id.is_none() {
        // One server for each session, and it ends with it: that is the evidence of its life.
        inside.actor.process = liveness::this_process();
        return String::new();
    }
    if inside.actor.alias.is_none() {
        return String::new();
    }
    match inside.broker.execute(&Command::Register { alias: None }, &inside.actor) {
        Ok(executed) => {
            let Reply::Registered(registered) = executed.reply else { return String::new() };
            inside.actor.session_id = Some(registered.session_id);
            inside.actor.inherited = false;
            join_rooms(&mut inside.broker, &inside.actor);
            match registered.asked {
                Some(asked) => format!(
                    " You are registered as '{}', because '{asked}' is held by a live session.",
                    registered.alias
                ),
                None => format!(" You are registered as '{}'.", registered.alias),
            }
        }
        Err(failure) => {
            note(&format!("c2c: auto-register: {}", failure.message()));
            format!(" Registration failed: {}.", failure.message())
        }
    }
}

fn join_rooms(broker: &mut Broker, actor: &Actor) {
    let rooms = std::env::var("C2C_MCP_AUTO_JOIN_ROOMS").unwrap_or_default();
    for room in rooms.split(',').map(str::trim).filter(|room| !room.is_empty()) {
        let command = Command::RoomJoin { room_id: room.to_owned(), from: None };
        if let Err(failure) = broker.execute(&command, actor) {
            note(&format!("c2c: auto-join of {room}: {}", failure.message()));
        }
    }
}

impl Server {
    fn subscriptions(&self) -> MutexGuard<'_, HashMap<String, AbortHandle>> {
        self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The caller, as this request names it: some clients tell their session only here.
    fn caller(&self, context: &RequestContext<RoleServer>) -> Option<String> {
        let meta = &context.meta.0.0;
        let turn = meta.get("x-codex-turn-metadata").and_then(|turn| turn.get("session_id"));
        let id = turn.or_else(|| meta.get("threadId"))?.as_str()?;
        c2c_log_format::id::check_name(id).is_ok().then(|| id.to_owned())
    }

    /// Who asks.
    fn acting(&self, context: &RequestContext<RoleServer>) -> Actor {
        let mut actor = self.shared.lock().actor.clone();
        actor.session_id = actor.session_id.or_else(|| self.caller(context));
        actor
    }

    async fn answer(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResult, ErrorData> {
        let name = request.name.to_string();
        if !tools::is_tool(&name) {
            return Err(ErrorData::invalid_params(format!("unknown tool: {name}"), None));
        }
        let arguments = Arguments(request.arguments.unwrap_or_default());
        let from_request = self.shared.lock().actor.session_id.is_none();
        let mut actor = self.acting(&context);
        let from_request = from_request && actor.session_id.is_some();
        if from_request {
            self.register_once(&actor);
        }
        let wait_s = arguments.number("wait_s").ok().flatten().filter(|_| name == "poll_inbox");
        let mut wait = Wait::begin(&self.root, &actor, wait_s.unwrap_or_default());
        let done = loop {
            if !wait.until_mail(&context).await {
                return Ok(CallToolResult::error(vec![ContentBlock::text("cancelled")]));
            }
            let inside = &mut *self.shared.lock();
            let done = call(&mut inside.broker, &mut actor, &name, &arguments);
            inside.broker.heartbeat_if_due(&actor);
            // Somebody else took it, or what waits is being shown already.
            if done.as_ref().is_ok_and(Answer::is_empty) && !wait.is_over() {
                continue;
            }
            break done;
        };
        Ok(match done {
            Ok(answer) => self.success(answer, &context, from_request),
            Err(failure) => failed(&failure),
        })
    }

    /// Registers a session that is named only now, under the alias of the environment, and wakes it
    /// from now on.
    fn register_once(&self, actor: &Actor) {
        let session_id = actor.session_id.clone().unwrap_or_default();
        let mut known = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.insert(session_id) {
            return;
        }
        if actor.client_type.as_deref() == Some(CODEX) {
            idle::watch(&self.root, actor.clone());
        }
        if actor.alias.is_none() {
            return;
        }
        let inside = &mut *self.shared.lock();
        match inside.broker.execute(&Command::Register { alias: None }, actor) {
            Ok(_) => join_rooms(&mut inside.broker, actor),
            Err(failure) => note(&format!("c2c: auto-register: {}", failure.message())),
        }
    }

    fn success(
        &self,
        answer: Answer,
        context: &RequestContext<RoleServer>,
        from_request: bool,
    ) -> CallToolResult {
        if let Some(claim) = answer.claim {
            if context.ct.is_cancelled() {
                self.shared.give_back(&claim, "cancelled");
                return CallToolResult::error(vec![ContentBlock::text("cancelled")]);
            }
            expect(&self.claims, context.id.clone(), claim);
        }
        if let Some(session_id) = answer.session_id.filter(|_| !from_request) {
            let inside = &mut *self.shared.lock();
            inside.actor.session_id = Some(session_id);
            inside.actor.inherited = false;
        }
        let text = match answer.array {
            Some(key) => answer.structured[key].to_string(),
            None => answer.structured.to_string(),
        };
        let mut result = CallToolResult::success(vec![ContentBlock::text(text)]);
        result.structured_content = Some(answer.structured);
        result
    }
}

fn internal(failure: &Failure) -> ErrorData {
    ErrorData::internal_error(failure.message(), Some(failure.to_json()))
}

fn no_resource(uri: &str) -> ErrorData {
    ErrorData::resource_not_found(format!("there is no resource {uri}"), None)
}

fn failed(failure: &Failure) -> CallToolResult {
    let value: Value = failure.to_json();
    let mut result = CallToolResult::error(vec![ContentBlock::text(value.to_string())]);
    result.structured_content = Some(value);
    result
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let mut capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_resources()
            .enable_resources_subscribe()
            .build();
        if push::channel_wanted() {
            let named = [(push::channel_name(), JsonObject::new())];
            capabilities.experimental = Some(named.into_iter().collect());
        }
        ServerConfig::new(capabilities)
            .with_server_info(Implementation::new("c2c", env!("CARGO_PKG_VERSION")))
            .with_instructions(format!("{INSTRUCTIONS}{}", self.greeting))
    }

    async fn on_initialized(&self, context: NotificationContext<RoleServer>) {
        let declared = context
            .peer
            .peer_info()
            .is_some_and(|client| push::channel_declared(&client.capabilities));
        if push::channel_wanted() {
            let (root, shared) = (self.root.clone(), self.shared.clone());
            if declared {
                tokio::spawn(push::drain_to_channel(root, shared, context.peer));
            } else {
                tokio::spawn(push::announce_to_channel(root, shared, context.peer));
            }
        }
    }

    /// The newer protocol has no way for the channel: where it is wanted, the older one is spoken.
    async fn discover(
        &self,
        _context: RequestContext<RoleServer>,
    ) -> Result<DiscoverResult, ErrorData> {
        if push::channel_wanted() {
            return Err(ErrorData::method_not_found::<DiscoverRequestMethod>());
        }
        let versions = self.supported_protocol_versions().into_owned();
        Ok(DiscoverResult::from_server_info(versions, self.get_info()))
    }

    async fn list_resources(
        &self,
        _request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let actor = self.acting(&context);
        let resources = self.shared.with(|broker, _| push::resources(broker, &actor));
        resources.map(ListResourcesResult::with_all_items).map_err(|failure| internal(&failure))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let actor = self.acting(&context);
        let read = self.shared.with(|broker, _| push::read(broker, &actor, &request.uri));
        match read.map_err(|failure| internal(&failure))? {
            Some(contents) => Ok(ReadResourceResult::new(contents).into()),
            None => Err(no_resource(&request.uri)),
        }
    }

    async fn subscribe(
        &self,
        request: SubscribeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let read = self.shared.with(|broker, actor| push::read(broker, actor, &request.uri));
        if read.map_err(|failure| internal(&failure))?.is_none() {
            return Err(no_resource(&request.uri));
        }
        let announcing = push::announce(
            self.root.clone(),
            self.shared.clone(),
            request.uri.clone(),
            self.shared.with(|broker, actor| push::mark(broker, actor, &request.uri)),
            Ear::Session(context.peer),
        );
        let task = tokio::spawn(announcing).abort_handle();
        if let Some(before) = self.subscriptions().insert(request.uri, task) {
            before.abort();
        }
        Ok(())
    }

    fn accepted_subscription_filter(
        &self,
        requested: &SubscriptionFilter,
    ) -> Option<SubscriptionFilter> {
        let mut accepted = requested.clone();
        if let Some(uris) = &mut accepted.resource_subscriptions {
            self.shared.with(|broker, actor| {
                uris.retain(|uri| matches!(push::read(broker, actor, uri), Ok(Some(_))));
            });
        }
        Some(accepted)
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let mut announcing = JoinSet::new();
        for uri in context.accepted().resource_subscriptions.clone().unwrap_or_default() {
            let ear = Ear::Subscription(context.sink().clone());
            let (root, shared) = (self.root.clone(), self.shared.clone());
            // It is subscribed already: what is there may have come since, and is told of.
            announcing.spawn(push::announce(root, shared, uri, 0, ear));
        }
        context.cancelled().await;
        Ok(())
    }

    async fn unsubscribe(
        &self,
        request: UnsubscribeRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        if let Some(task) = self.subscriptions().remove(&request.uri) {
            task.abort();
        }
        Ok(())
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(tools::tool_list(self.all_tools)))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        self.answer(request, context).await.map(CallToolResponse::from)
    }
}
