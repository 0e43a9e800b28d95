//! Why a command could not do what it was asked for. Every text says what to do.

use crate::index::IndexError;

/// An error of a command.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// There is no cluster to talk to.
    #[error("no cluster to talk to: {0}. Give --kubeconfig and --context, or set KUBECONFIG.")]
    NoCluster(String),
    /// The API server did not do what it was asked.
    #[error("cannot {action}: {source}. {remedy}")]
    Api {
        /// What was asked.
        action: String,
        /// What the client said.
        #[source]
        source: Box<kube::Error>,
        /// What to do.
        remedy: String,
    },
    /// The cluster could not be listed, or the manifests not be read.
    #[error("{0}")]
    World(#[from] IndexError),
    /// A file or directory.
    #[error("cannot read {path}: {source}. Check the path and its permissions.")]
    File {
        /// The path.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A file that could not be written.
    #[error("cannot write {path}: {source}. Check that its directory is there and may be written to.")]
    Write {
        /// The path.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Text that is no YAML, or YAML that is no object.
    #[error("{origin} cannot be read as Kubernetes manifests: {problem}. Nothing of it was checked; correct it first.")]
    Manifest {
        /// Where the text came from.
        origin: String,
        /// What is wrong.
        problem: String,
    },
    /// A value that cannot be.
    #[error("{option} {value:?} {problem}")]
    Value {
        /// The option or argument.
        option: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it, and what is expected.
        problem: String,
    },
    /// Arguments that cannot be.
    #[error("{0}")]
    Arguments(String),
    /// Hashing failed.
    #[error("{report}")]
    Digest {
        /// The report of the verifier.
        report: String,
        /// Its exit code.
        code: u8,
    },
    /// The registration in the cluster failed.
    #[error("{fact}.\n{remedy}")]
    Register {
        /// What happened.
        fact: String,
        /// What to do.
        remedy: String,
    },
    /// The manifest could not be written into the directory.
    #[error("cannot write the manifest: {0}. Nothing was declared.")]
    Store(#[from] crate::verifier::store::StoreError),
    /// The user pressed Ctrl-C.
    #[error("interrupted; what was started in the cluster was removed")]
    Interrupted,
    /// The result could not be printed.
    #[error("the result cannot be printed: {0}")]
    Output(#[from] std::io::Error),
    /// The result could not be put into YAML or JSON.
    #[error("the result cannot be written as {format}: {problem}. This is a defect of kubectl-weightlock; report it.")]
    Encode {
        /// YAML or JSON.
        format: &'static str,
        /// What the encoder said.
        problem: String,
    },
}

impl CliError {
    /// The exit code. 1 is kept for "refused"; codes of the verifier are passed on.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Digest { code, .. } => *code,
            Self::Interrupted => 130,
            Self::Arguments(_) => crate::verifier::finding::exit::USAGE,
            _ => 2,
        }
    }

    /// An error of the API server, with a remedy for the usual ones.
    pub fn api(action: impl Into<String>, source: kube::Error) -> Self {
        let remedy = match &source {
            kube::Error::Api(status) if status.code == 403 => {
                "Ask for the permission that is named, or use a context that has it (--context)."
            }
            kube::Error::Api(status) if status.code == 404 => {
                "Check name, namespace (-n) and context; if it is the kind that is not found, install Weightlock first."
            }
            kube::Error::Api(status) if status.code == 401 => "Log in again: the credentials are not accepted.",
            kube::Error::Api(status) if status.code == 409 => {
                "Somebody else changed it meanwhile: look at it, then run the command again."
            }
            kube::Error::Api(_) => "Correct what the API server names, then run the command again.",
            _ => "Check that the cluster can be reached: kubectl version.",
        };
        Self::Api { action: action.into(), source: Box::new(source), remedy: remedy.into() }
    }
}
