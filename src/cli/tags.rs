//! Options that tag a message.

use clap::Args;

// No doc comment: clap would show it as the description of each command that has these options.
#[derive(Args, Clone, Default)]
pub struct Tags {
    /// Tag the message: fail, blocking or urgent
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
    /// Same as --tag fail
    #[arg(long, conflicts_with_all = ["tag", "blocking", "urgent"])]
    fail: bool,
    /// Same as --tag blocking
    #[arg(long, conflicts_with_all = ["tag", "urgent"])]
    blocking: bool,
    /// Same as --tag urgent
    #[arg(long, conflicts_with = "tag")]
    urgent: bool,
}

impl Tags {
    /// The selected tag.
    pub fn tag(self) -> Option<String> {
        let flags = [(self.fail, "fail"), (self.blocking, "blocking"), (self.urgent, "urgent")];
        let flag = flags.iter().find(|(is_set, _)| *is_set).map(|(_, tag)| (*tag).to_owned());
        self.tag.or(flag)
    }
}
