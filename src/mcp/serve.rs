//! The server: its lifetime, and the handlers of MCP requests.

use c2c_log_format::payload::ClaimReturnReason;
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

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
use tokio::task::{AbortHandle, JoinSet};

use super::arguments::Arguments;
use super::call::call;
use super::hints::failure_json;
use super::info::INSTRUCTIONS;
use super::shared::SharedSession;
use super::tool_answer::ToolAnswer;
use super::transport::{AckingTransport, ClaimTracker};
use super::updates::{Subscriber, report_updates};
use super::wait::MailWait;
use super::{auto_register, channel, idle, resources, tools};
use crate::env::C2C_MCP_TOOLS;
use crate::env::root::Root;
use crate::error::Failure;
use c2c_core::decide::{Actor, CODEX, SessionSource};

struct Server {
    session: SharedSession,
    claims: ClaimTracker,
    is_root_named: bool,
    all_tools: bool,
    /// Added to the instructions: the outcome of the registration at start.
    greeting: String,
    /// Running notifications, by resource URI.
    subscriptions: Mutex<HashMap<String, AbortHandle>>,
    /// Session ids that requests have named.
    known_sessions: Mutex<HashSet<String>>,
}

/// Serves one client until it closes the pipe.
pub fn serve(root: &Root, actor: Actor) -> io::Result<()> {
    let session = SharedSession::open(root, actor);
    let claims = ClaimTracker::default();
    let server = Server {
        session: session.clone(),
        claims: claims.clone(),
        is_root_named: root.is_named(),
        all_tools: C2C_MCP_TOOLS.text().is_some_and(|profile| profile == "all"),
        greeting: auto_register::at_start(&session),
        subscriptions: Mutex::default(),
        known_sessions: Mutex::default(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let served: io::Result<()> = runtime.block_on(async move {
        let (read, write) = rmcp::transport::io::stdio_pipes();
        let inner = AsyncRwTransport::new_server(read, write);
        match server.serve(AckingTransport::new(inner, claims, session)).await {
            Ok(running) => running.waiting().await.map(|_| ()).map_err(io::Error::other),
            // The client disconnected before it initialised the session: not an error.
            Err(_) => Ok(()),
        }
    });
    runtime.shutdown_background();
    served
}

impl Server {
    fn subscriptions(&self) -> MutexGuard<'_, HashMap<String, AbortHandle>> {
        self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The root of the session.
    fn root(&self) -> PathBuf {
        self.session.with(|broker, _| broker.root().to_owned())
    }

    /// The session id that a request names: some clients send it only there.
    fn session_id_of(&self, context: &RequestContext<RoleServer>) -> Option<String> {
        let meta = &context.meta.0.0;
        let turn = meta.get("x-codex-turn-metadata").and_then(|turn| turn.get("session_id"));
        let id = turn.or_else(|| meta.get("threadId"))?.as_str()?;
        c2c_log_format::id::check_name(id).is_ok().then(|| id.to_owned())
    }

    /// The actor of a request.
    fn actor_for(&self, context: &RequestContext<RoleServer>) -> Actor {
        let mut actor = self.session.actor();
        if actor.session_id.is_none() {
            actor.session_id = self.session_id_of(context).map(Into::into);
            actor.source = SessionSource::Request;
        }
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
        let had_session = self.session.actor().session_id.is_some();
        let mut actor = self.actor_for(&context);
        let is_from_request = !had_session && actor.session_id.is_some();
        if is_from_request {
            self.register_once(&actor);
        }
        let wait_s = arguments.number("wait_s").ok().flatten().filter(|_| name == "poll_inbox");
        self.session.lock().restore(&actor);
        let mut wait = MailWait::begin(&self.root(), &actor, wait_s.unwrap_or_default());
        let outcome = loop {
            if !wait.until_mail(&context).await {
                return Ok(cancelled());
            }
            let session = &mut *self.session.lock();
            session.restore(&actor);
            let outcome = call(&mut session.broker, &mut actor, &name, &arguments);
            session.remember(&actor);
            session.broker.heartbeat_if_due(&actor);
            // Another poller took the mail, or holds a claim on it.
            let is_empty = outcome.as_ref().is_ok_and(ToolAnswer::is_empty_array);
            if is_empty && !wait.is_over() {
                continue;
            }
            break outcome;
        };
        Ok(match outcome {
            Ok(answer) => self.success(answer, &context, is_from_request),
            Err(failure) => failed(&failure),
        })
    }

    /// Registers a session that a request names for the first time, and starts waking it.
    fn register_once(&self, actor: &Actor) {
        let session_id = actor.session_id.clone().unwrap_or_default();
        let mut known = self.known_sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.insert(session_id.into()) {
            return;
        }
        if !self.is_root_named {
            self.session.follow(actor);
        }
        if actor.client_type.as_deref() == Some(CODEX) {
            idle::watch(&self.root(), actor.clone());
        }
        auto_register::for_new_session(&self.session, actor);
    }

    fn success(
        &self,
        answer: ToolAnswer,
        context: &RequestContext<RoleServer>,
        is_from_request: bool,
    ) -> CallToolResult {
        if let Some(claim) = answer.claim {
            if context.ct.is_cancelled() {
                self.session.release(&claim, ClaimReturnReason::Cancelled);
                return cancelled();
            }
            self.claims.expect(context.id.clone(), claim);
        }
        if let Some(session_id) = answer.session_id.filter(|_| !is_from_request) {
            let session = &mut *self.session.lock();
            session.actor.session_id = Some(session_id.into());
            session.actor.source = SessionSource::Given;
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

fn cancelled() -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text("cancelled")])
}

fn internal(failure: &Failure) -> ErrorData {
    ErrorData::internal_error(failure.message(), Some(failure_json(failure)))
}

fn no_resource(uri: &str) -> ErrorData {
    ErrorData::resource_not_found(format!("resource not found: {uri}"), None)
}

fn failed(failure: &Failure) -> CallToolResult {
    let value = failure_json(failure);
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
        if channel::is_enabled() {
            let named = [(channel::CHANNEL.to_owned(), JsonObject::new())];
            capabilities.experimental = Some(named.into_iter().collect());
        }
        ServerConfig::new(capabilities)
            .with_server_info(Implementation::new("c2c", env!("CARGO_PKG_VERSION")))
            .with_instructions(format!("{INSTRUCTIONS}{}", self.greeting))
    }

    async fn on_initialized(&self, context: NotificationContext<RoleServer>) {
        if !channel::is_enabled() {
            return;
        }
        let is_declared = context
            .peer
            .peer_info()
            .is_some_and(|client| channel::is_declared(&client.capabilities));
        let (root, session) = (self.root(), self.session.clone());
        if is_declared {
            tokio::spawn(channel::deliver_mail(root, session, context.peer));
        } else {
            tokio::spawn(channel::announce_mail(root, session, context.peer));
        }
    }

    /// Rejects the newer protocol if the channel is enabled, because that protocol does not support
    /// it: the client then falls back to the older one.
    async fn discover(
        &self,
        _context: RequestContext<RoleServer>,
    ) -> Result<DiscoverResult, ErrorData> {
        if channel::is_enabled() {
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
        let actor = self.actor_for(&context);
        let listed = self.session.with(|broker, _| resources::list(broker, &actor));
        listed.map(ListResourcesResult::with_all_items).map_err(|failure| internal(&failure))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let actor = self.actor_for(&context);
        let read = self.session.with(|broker, _| resources::read(broker, &actor, &request.uri));
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
        let uri = request.uri;
        let read = self.session.with(|broker, actor| resources::read(broker, actor, &uri));
        if read.map_err(|failure| internal(&failure))?.is_none() {
            return Err(no_resource(&uri));
        }
        let reporting = report_updates(
            self.root(),
            self.session.clone(),
            uri.clone(),
            self.session.with(|broker, actor| resources::version(broker, actor, &uri)),
            Subscriber::Session(context.peer),
        );
        let task = tokio::spawn(reporting).abort_handle();
        if let Some(previous) = self.subscriptions().insert(uri, task) {
            previous.abort();
        }
        Ok(())
    }

    fn accepted_subscription_filter(
        &self,
        requested: &SubscriptionFilter,
    ) -> Option<SubscriptionFilter> {
        let mut accepted = requested.clone();
        if let Some(uris) = &mut accepted.resource_subscriptions {
            self.session.with(|broker, actor| {
                uris.retain(|uri| matches!(resources::read(broker, actor, uri), Ok(Some(_))));
            });
        }
        Some(accepted)
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let mut reporting = JoinSet::new();
        for uri in context.accepted().resource_subscriptions.clone().unwrap_or_default() {
            let subscriber = Subscriber::Subscription(context.sink().clone());
            let (root, session) = (self.root(), self.session.clone());
            // The subscription is already in effect, so messages may have arrived since. Version 0
            // reports them.
            reporting.spawn(report_updates(root, session, uri, 0, subscriber));
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
