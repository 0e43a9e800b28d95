//! The controller and the webhook, as the programs that are shipped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use base64::Engine;
use serde_json::Value;

use super::VERIFIER;
use super::arguments::Arguments;
use super::objects::Plan;
use super::server::{OWN_NAMESPACE, Server};

const WEBHOOK_METRICS: u16 = 8081;
const CONTROLLER_METRICS: u16 = 8082;
/// So many times, two seconds apart, the controller must be found to have written nothing. A round over all artifacts takes
/// long, and writes are at its end.
const QUIET: u64 = 15;

/// Resident memory of a process in MiB: now, and at its highest.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    pub now: f64,
    pub peak: f64,
}

/// The two processes. They end with it.
pub struct Processes {
    arguments: Arguments,
    tls: PathBuf,
    controller: Option<Child>,
    webhook: Option<Child>,
}

impl Processes {
    pub fn new(arguments: &Arguments) -> Result<Self> {
        let tls = arguments.directory.join("tls");
        fs::create_dir_all(&tls)?;
        Ok(Self { arguments: arguments.clone(), tls, controller: None, webhook: None })
    }

    /// Starts the controller, under the name that its policies know it by.
    pub fn start_controller(&mut self) -> Result<()> {
        let text = fs::read_to_string(&self.arguments.kubeconfig)?;
        let mut kubeconfig: Value = serde_saphyr::from_str(&text)?;
        for user in kubeconfig["users"].as_array_mut().into_iter().flatten() {
            user["user"]["as"] = format!("system:serviceaccount:{OWN_NAMESPACE}:weightlock-controller").into();
            user["user"]["as-groups"] = serde_json::json!(["system:masters", "system:authenticated"]);
        }
        let path = self.arguments.directory.join("controller.kubeconfig");
        fs::write(&path, kubeconfig.to_string())?;
        self.controller = Some(self.start("controller", path, CONTROLLER_METRICS, &[])?);
        Ok(())
    }

    pub fn start_webhook(&mut self) -> Result<()> {
        let tls = format!("--tls-dir={}", self.tls.display());
        let listen = format!("--listen={}:9443", self.arguments.address);
        let kubeconfig = self.arguments.kubeconfig.clone();
        self.webhook = Some(self.start("webhook", kubeconfig, WEBHOOK_METRICS, &[tls, listen])?);
        Ok(())
    }

    fn start(&self, verb: &str, kubeconfig: PathBuf, health: u16, more: &[String]) -> Result<Child> {
        let log = fs::File::create(self.arguments.directory.join(format!("{verb}.log")))?;
        Command::new(&self.arguments.weightlock)
            .args([verb, "--log=warn", "--log-format=text"])
            .arg(format!("--verifier-image={VERIFIER}"))
            .arg(format!("--health-listen={}:{health}", self.arguments.address))
            .args(more)
            .env("KUBECONFIG", kubeconfig)
            // As in the chart.
            .envs((verb == "webhook").then_some(("MALLOC_ARENA_MAX", "1")))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("{} {verb}", self.arguments.weightlock.display()))
    }

    /// Waits for the certificate that the controller issues and writes it where the webhook reads it. Gives the authority
    /// by which it is known.
    pub async fn certificate(&self, server: &Server) -> Result<Vec<u8>> {
        let path = |name: &str| format!("/api/v1/namespaces/{OWN_NAMESPACE}/secrets/{name}");
        let secret = wait(120, "the serving certificate", async || {
            let secret = server.get(&path("weightlock-webhook-tls")).await?;
            Ok((!secret.is_null()).then_some(secret))
        })
        .await?;
        for name in ["tls.crt", "tls.key"] {
            fs::write(self.tls.join(name), decoded(&secret["data"][name])?)?;
        }
        wait(120, "the webhook configuration", async || {
            let path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/weightlock";
            let configuration = server.get(path).await?;
            let bundle = &configuration["webhooks"][0]["clientConfig"]["caBundle"];
            if bundle.is_string() { decoded(bundle).map(Some) } else { Ok(None) }
        })
        .await
    }

    /// Where the certificate is.
    pub fn tls(&self) -> &Path {
        &self.tls
    }

    pub async fn webhook_ready(&self) -> Result<()> {
        let url = format!("{}:{WEBHOOK_METRICS}", self.arguments.address);
        wait(300, "readiness", async || {
            Ok(fetch(&url, "/readyz").await.ok().filter(|text| text.ends_with("ok\n")).map(|_| ()))
        })
        .await
    }

    /// Waits until the last artifact has a status, the policies are bound, and nothing is written any more. Says how long that
    /// took.
    pub async fn controller_settled(&self, server: &Server, plan: &Plan) -> Result<Duration> {
        let last = format!("/apis/weightlock.dev/v1alpha1/weightartifacts/model-{}", plan.artifacts - 1);
        let bindings = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings?limit=1";
        self.controller_quiet(async || {
            let known = !server.get(&last).await?["status"]["conditions"].is_null();
            let bound = server.get(bindings).await?["items"].as_array().is_some_and(|items| !items.is_empty());
            Ok(known && bound)
        })
        .await
    }

    /// Waits until it is done, and nothing is written any more. Says how long that took.
    pub async fn controller_quiet(&self, mut done: impl AsyncFnMut() -> Result<bool>) -> Result<Duration> {
        let started = Instant::now();
        let (mut before, mut quiet) = (0.0, 0);
        wait(3600, "a controller that has nothing left to write", async || {
            tokio::time::sleep(Duration::from_secs(2)).await;
            let writes = self.counter(CONTROLLER_METRICS, "weightlock_writes_total").await?;
            quiet = if writes == before { quiet + 1 } else { 0 };
            before = writes;
            Ok((done().await? && quiet >= QUIET).then_some(()))
        })
        .await?;
        Ok(started.elapsed().saturating_sub(Duration::from_secs(2 * QUIET)))
    }

    /// How many requests the webhook has answered.
    pub async fn webhook_requests(&self) -> Result<f64> {
        self.counter(WEBHOOK_METRICS, "weightlock_admission_requests_total").await
    }

    /// The sum of a counter over its labels.
    async fn counter(&self, port: u16, name: &str) -> Result<f64> {
        let text = fetch(&format!("{}:{port}", self.arguments.address), "/metrics").await?;
        let counted = text.lines().filter(|line| line.starts_with(name));
        Ok(counted.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    pub fn webhook_memory(&self) -> Result<Memory> {
        memory(self.webhook.as_ref())
    }

    pub fn controller_memory(&self) -> Result<Memory> {
        memory(self.controller.as_ref())
    }

    /// The controller does nothing any more, as if its machine had stopped.
    pub fn pause_controller(&self) -> Result<()> {
        let Some(controller) = &self.controller else { return Ok(()) };
        let stopped = Command::new("kill").args(["-STOP", &controller.id().to_string()]).status()?;
        if stopped.success() { Ok(()) } else { bail!("the controller cannot be stopped") }
    }

    pub fn end(&mut self) {
        for mut child in [self.controller.take(), self.webhook.take()].into_iter().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        self.end();
    }
}

fn memory(child: Option<&Child>) -> Result<Memory> {
    let Some(child) = child else { bail!("it does not run") };
    let status = fs::read_to_string(format!("/proc/{}/status", child.id()))?;
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<f64>().ok().map(|kib| kib / 1024.0)
    };
    match (field("VmRSS:"), field("VmHWM:")) {
        (Some(now), Some(peak)) => Ok(Memory { now, peak }),
        _ => bail!("process {} has ended", child.id()),
    }
}

fn decoded(value: &Value) -> Result<Vec<u8>> {
    Ok(base64::engine::general_purpose::STANDARD.decode(value.as_str().context("no base64 text")?)?)
}

/// Time that a process has been on a processor.
pub fn processor_time(process: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name of the program, in parentheses, may hold anything; the fields after it do not.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |field: usize| fields.get(field).and_then(|ticks| ticks.parse::<u64>().ok());
    let (Some(user), Some(system)) = (ticks(11), ticks(12)) else { bail!("process {process} has ended") };
    // Ticks are those of USER_HZ, which is 100 on every architecture that Rust's standard library has.
    Ok(Duration::from_millis((user + system) * 10))
}

/// Asks until there is an answer. Errors while it is not up yet are no answer.
pub async fn wait<T>(seconds: u64, what: &str, mut ask: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        let why = match ask().await {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => "not yet".to_owned(),
            Err(error) => format!("{error:#}"),
        };
        if Instant::now() > deadline {
            bail!("not within {seconds} s: {what} ({why})");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The answer of a plain HTTP server.
async fn fetch(authority: &str, path: &str) -> Result<String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(authority).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
