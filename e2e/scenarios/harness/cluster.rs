//! The cluster program and kubectl, as a user calls them.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// Root of the checkout.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The kubeconfig that the test command set up.
pub fn kubeconfig() -> String {
    std::env::var("WEIGHTLOCK_TEST_KUBECONFIG").unwrap_or_else(|_| {
        panic!("WEIGHTLOCK_TEST_KUBECONFIG is not set: scenarios need the local cluster; `e2e/test` starts it and sets this")
    })
}

/// Output of a program: what it printed on both streams, and whether it succeeded.
#[derive(Debug)]
pub struct Ran {
    pub ok: bool,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    fn of(what: &str, output: std::io::Result<Output>) -> Self {
        let output = output.unwrap_or_else(|e| panic!("{what}: {e}"));
        Self {
            ok: output.status.success(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Panics unless the program succeeded; gives its standard output.
    pub fn success(self) -> String {
        assert!(self.ok, "failed\nstdout: {}\nstderr: {}", self.stdout, self.stderr);
        self.stdout
    }

    /// Panics unless the program failed; gives its standard error.
    pub fn failure(self) -> String {
        assert!(!self.ok, "succeeded, though it should not have\nstdout: {}\nstderr: {}", self.stdout, self.stderr);
        self.stderr
    }
}

/// Runs `program` with at most `seconds` to live.
fn run(program: &str, args: &[&str], stdin: &str, seconds: u32) -> Ran {
    let mut command = Command::new("timeout");
    command.arg("--kill-after=5").arg(seconds.to_string()).arg(program).args(args);
    command.env("KUBECONFIG", kubeconfig()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{program}: {e}"));
    if let Some(mut pipe) = child.stdin.take() {
        // A program that ends before it has read everything closes the pipe; its exit code tells.
        let _ = pipe.write_all(stdin.as_bytes());
    }
    Ran::of(program, child.wait_with_output())
}

fn tool(name: &str) -> String {
    std::env::var("WEIGHTLOCK_TEST_BIN").map(|dir| format!("{dir}/{name}")).unwrap_or_else(|_| name.to_string())
}

/// `kubectl ARGS`, from the cluster's own build.
pub async fn kubectl(args: &[&str]) -> Ran {
    kubectl_with(args, "").await
}

/// `kubectl ARGS` with something on standard input.
pub async fn kubectl_with(args: &[&str], stdin: &str) -> Ran {
    blocking(tool("kubectl"), args, stdin, 60).await
}

/// `helm ARGS`, from the cluster's own build.
pub async fn helm(args: &[&str]) -> Ran {
    blocking(tool("helm"), args, "", 240).await
}

/// `e2e/cluster/cluster ARGS`, for the cluster that the tests run on.
pub async fn cluster(args: &[&str]) -> Ran {
    let name = cluster_name();
    let args = &[&["--name", name.as_str()], args].concat();
    blocking(root().join("e2e/cluster/cluster").display().to_string(), args, "", 120).await
}

fn cluster_name() -> String {
    std::env::var("WEIGHTLOCK_TEST_CLUSTER").unwrap_or_else(|_| "weightlock".to_string())
}

/// Process id of the kubelet of a node: whoever enters its mount namespace sees the node's file systems.
pub fn kubelet(node: &str) -> String {
    let of_node = format!("/{}/{node}/", cluster_name());
    let found = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok).find(|process| {
        let command = std::fs::read_to_string(process.path().join("cmdline")).unwrap_or_default();
        let (program, arguments) = command.split_once('\0').unwrap_or_default();
        program.ends_with("/kubelet") && arguments.contains(&of_node)
    });
    found.unwrap_or_else(|| panic!("no kubelet of {node} runs")).file_name().into_string().unwrap()
}

/// `kubectl weightlock ARGS`, the plugin of this build.
pub async fn weightlock(args: &[&str], stdin: &str) -> Ran {
    blocking(env!("CARGO_BIN_EXE_kubectl-weightlock").to_string(), args, stdin, 120).await
}

async fn blocking(program: String, args: &[&str], stdin: &str, seconds: u32) -> Ran {
    let args: Vec<String> = args.iter().map(ToString::to_string).collect();
    let stdin = stdin.to_string();
    tokio::task::spawn_blocking(move || {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        run(&program, &args, &stdin, seconds)
    })
    .await
    .unwrap()
}
