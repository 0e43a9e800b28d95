//! Who may use what. The table is the one in `src/lib.rs`; here it is enforced on every path that the sources name.

// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A module and what none of its files may name, by the beginning of the path.
struct Layer {
    module: &'static str,
    forbidden: &'static [&'static str],
    /// Files, relative to `src/`, to which it does not apply.
    except: &'static [&'static str],
}

/// What writes to the API server is recognised by the parameters that every write takes.
const WRITES: [&str; 5] = [
    "kube::api::PostParams",
    "kube::api::PatchParams",
    "kube::api::Patch",
    "kube::api::DeleteParams",
    "kube::api::EvictParams",
];

const LAYERS: &[Layer] = &[
    Layer {
        module: "api",
        forbidden: &[
            "kube::Client",
            "kube::Api",
            "kube::api",
            "kube::client",
            "kube::runtime",
            "tokio",
            "hyper",
            "axum",
            "std::fs",
            "std::env",
            "std::net",
            "std::process",
            "crate::domain",
            "crate::render",
            "crate::index",
            "crate::reconcile",
            "crate::webhook",
            "crate::cli",
            "crate::runtime",
            "crate::verifier",
        ],
        except: &[],
    },
    Layer {
        module: "domain",
        forbidden: &[
            "kube",
            "k8s_openapi",
            "tokio",
            "hyper",
            "axum",
            "std::fs",
            "std::env",
            "std::process",
            "std::thread",
            "std::net::TcpStream",
            "std::net::UdpSocket",
            "std::net::ToSocketAddrs",
            "std::time::SystemTime",
            "std::time::Instant",
            "time::OffsetDateTime",
            "crate::render",
            "crate::index",
            "crate::reconcile",
            "crate::webhook",
            "crate::cli",
            "crate::runtime",
            "crate::verifier",
        ],
        except: &[],
    },
    Layer {
        module: "render",
        forbidden: &[
            "kube::Client",
            "kube::Api",
            "kube::api",
            "kube::client",
            "kube::runtime",
            "tokio",
            "std::fs",
            "std::env",
            "std::net::TcpStream",
            "std::process",
            "std::time::SystemTime",
            "std::time::Instant",
            "crate::index",
            "crate::reconcile",
            "crate::webhook",
            "crate::cli",
            "crate::runtime",
            "crate::verifier",
            "crate::domain::admission",
        ],
        except: &[],
    },
    Layer {
        module: "index",
        forbidden: &[
            "crate::domain::admission",
            "crate::domain::rules",
            "crate::domain::Rule",
            "crate::render",
            "crate::reconcile",
            "crate::webhook",
            "crate::cli",
        ],
        except: &[],
    },
    Layer {
        module: "webhook",
        forbidden: &["kube::Client", "kube::Api", "kube::client", "kube::runtime", "crate::reconcile", "crate::cli"],
        except: &[],
    },
    Layer { module: "reconcile", forbidden: &["crate::webhook", "crate::cli", "crate::verifier"], except: &[] },
    Layer {
        module: "runtime",
        forbidden: &["crate::domain::admission", "crate::reconcile", "crate::webhook", "crate::cli", "crate::render"],
        except: &[],
    },
    Layer {
        module: "cli",
        forbidden: &["crate::reconcile", "crate::webhook", "crate::domain::Violation"],
        except: &[],
    },
    Layer {
        module: "verifier",
        forbidden: &[
            "kube",
            "k8s_openapi",
            "tokio",
            "hyper",
            "axum",
            "rustls",
            "clap",
            "std::net",
            "std::os::unix::net",
            "std::process::Command",
            "crate::api",
            "crate::domain",
            "crate::render",
            "crate::index",
            "crate::reconcile",
            "crate::webhook",
            "crate::cli",
            "crate::runtime",
        ],
        // The guard check is the only place that opens a socket.
        except: &["verifier/guard.rs"],
    },
];

/// The only files that write to the API server: the writer with its parts, the Lease, and the commands of `kubectl weightlock` that write
/// with the rights of the person who runs it.
const WRITERS: [&str; 8] = [
    "reconcile/apply.rs",
    "reconcile/apply/beside.rs",
    "reconcile/apply/delete.rs",
    "reconcile/apply/scale.rs",
    "runtime/lease.rs",
    "cli/clear.rs",
    "cli/register.rs",
    "cli/seal.rs",
];

#[test]
fn no_layer_uses_what_it_may_not() {
    let mut wrong = Vec::new();
    for layer in LAYERS {
        for file in files(layer.module).into_iter().filter(|f| !layer.except.contains(&f.name.as_str())) {
            for path in file.paths() {
                if layer.forbidden.iter().any(|forbidden| begins(&path, forbidden)) {
                    wrong.push(format!("src/{}: {path} is not for {}", file.name, layer.module));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn there_is_one_writer() {
    let mut found = BTreeSet::new();
    for module in LAYERS {
        for file in files(module.module) {
            if file.paths().iter().any(|path| WRITES.iter().any(|write| begins(path, write))) {
                found.insert(file.name);
            }
        }
    }
    assert_eq!(found, WRITERS.iter().map(|w| (*w).to_string()).collect::<BTreeSet<_>>());
}

#[test]
fn binaries_are_thin() {
    for file in files("bin") {
        let lines = file.text.lines().count();
        assert!(lines <= 120, "src/{} has {lines} lines: move what it does into the library", file.name);
    }
}

#[test]
fn every_module_is_in_the_table() {
    let lib = std::fs::read_to_string(source().join("lib.rs")).unwrap();
    for line in lib.lines().filter_map(|line| line.strip_prefix("pub mod ")) {
        let module = line.trim_end_matches(';');
        assert!(LAYERS.iter().any(|layer| layer.module == module), "{module} has no row in tests/layering.rs");
        assert!(!files(module).is_empty());
    }
}

#[test]
fn the_verifier_links_no_client_and_no_runtime() {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--locked",
            "--offline",
            "--no-default-features",
            "--features",
            "verify",
            "-e",
            "normal",
            "--prefix",
            "none",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).unwrap();
    let packages: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(packages.contains("weightlock") && packages.contains("sha2"), "{packages:?}");
    for package in ["kube", "kube-client", "k8s-openapi", "tokio", "rustls", "hyper", "axum", "clap", "openssl"] {
        assert!(!packages.contains(package), "the verifier links {package}");
    }
}

#[test]
fn the_scan_sees_nested_relative_and_inline_paths() {
    let file = File {
        name: "a/b/c.rs".into(),
        text: "use std::{fs, net::{IpAddr, TcpStream as T}};\nuse super::super::x::{self, Y};\n// use tokio::no;\nfn f() { let s = \"tokio::no\"; crate::index::g(); self::h(); }\n#[cfg(test)]\nmod tests { use tokio::x; }\n".into(),
    };
    let paths = file.paths();
    for expected in [
        "std::fs",
        "std::net::IpAddr",
        "std::net::TcpStream",
        "crate::a::x",
        "crate::a::x::Y",
        "crate::index::g",
        "crate::a::b::c::h",
    ] {
        assert!(paths.contains(expected), "{expected} is not in {paths:?}");
    }
    assert!(!paths.iter().any(|path| path.starts_with("tokio")), "{paths:?}");
}

fn begins(path: &str, with: &str) -> bool {
    path.strip_prefix(with).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// A source file; `name` is relative to `src/`.
struct File {
    name: String,
    text: String,
}

/// The files of a module without those that hold only tests.
fn files(module: &str) -> Vec<File> {
    fn walk(directory: &Path, found: &mut Vec<File>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix(source()).unwrap().to_str().unwrap().to_string();
                let stem = path.file_stem().unwrap().to_str().unwrap();
                if stem != "tests" && !stem.ends_with("_tests") && !name.contains("/tests/") {
                    found.push(File { name, text: std::fs::read_to_string(&path).unwrap() });
                }
            }
        }
    }
    let mut found = Vec::new();
    walk(&source().join(module), &mut found);
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

impl File {
    /// Every path that the code names, from its crate's root; `use` trees are spread out.
    fn paths(&self) -> BTreeSet<String> {
        let code = code(&self.text);
        let mut raw = Vec::new();
        for statement in code.split(';') {
            // The last `use` of what precedes the semicolon begins the statement.
            match statement.rsplit_once("use ") {
                Some((before, tree)) if before.is_empty() || before.ends_with(|c: char| c.is_whitespace()) => {
                    spread("", tree, &mut raw)
                }
                _ => {}
            }
        }
        let part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        raw.extend(
            code.split(|c| !part(c)).filter(|word| word.contains("::")).map(|word| word.trim_matches(':').to_string()),
        );
        raw.iter().map(|path| self.resolve(path)).collect()
    }

    /// `self::` and `super::` from the crate's root.
    fn resolve(&self, path: &str) -> String {
        let module = self.name.trim_end_matches(".rs").trim_end_matches("/mod");
        let mut at: Vec<&str> = module.split('/').collect();
        let mut steps = path.split("::").peekable();
        if !matches!(steps.peek(), Some(&"self" | &"super")) {
            return path.to_string();
        }
        while let Some(step @ ("self" | "super")) = steps.peek().copied() {
            if step == "super" {
                at.pop();
            }
            steps.next();
        }
        ["crate"].into_iter().chain(at).chain(steps).collect::<Vec<_>>().join("::")
    }
}

/// The text without comments, string contents and the test module at its end.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    let mut code = String::new();
    for line in text.lines() {
        // Every second piece between quotes is a string. An escaped quote shifts that, which only hides a line's rest.
        let line = line.split("//").next().unwrap_or_default();
        for outside in line.split('"').step_by(2) {
            code.push_str(outside);
            code.push(' ');
        }
        code.push('\n');
    }
    code
}

/// The paths of a `use` tree.
fn spread(prefix: &str, tree: &str, found: &mut Vec<String>) {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        let path = tree.split(" as ").next().unwrap_or_default().trim();
        let path = format!("{prefix}{path}");
        found.push(path.trim_end_matches("::self").to_string());
        return;
    };
    let inner = tree[open + 1..].trim_end().trim_end_matches('}');
    let prefix = format!("{prefix}{}", tree[..open].trim());
    let (mut depth, mut start) = (0, 0);
    for (at, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                spread(&prefix, &inner[start..at], found);
                start = at + 1;
            }
            _ => {}
        }
    }
    if !inner[start..].trim().is_empty() {
        spread(&prefix, &inner[start..], found);
    }
}
