//! Verification of weights while pods run.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Verification of weights while the pods run: a sidecar reads them again and again. It costs reads of the storage and
/// a little processor time; what it finds ends the pod and blocks the weights until a person clears them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reverification {
    /// How long after the end of one reading the next one begins, as a Gateway API duration ("24h", "90m").
    #[schemars(length(min = 2, max = 32), regex(pattern = r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"))]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('8760h')")
        .message("reverifyInterval is a duration from 1s to 8760h, such as 24h or 90m."))]
    pub reverify_interval: String,
    /// How many bytes per second one pod reads for it at most, as a quantity.
    #[serde(default = "Reverification::default_rate")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = Rule::new("isQuantity(self) && quantity(self).compareTo(quantity('1M')) >= 0")
        .message("maxBytesPerSecond is a quantity of bytes per second of at least 1M, such as 200M."))]
    pub max_bytes_per_second: String,
    /// What the sidecar asks for and may use: requests and limits are the same, so that a Guaranteed pod stays Guaranteed.
    #[serde(default)]
    pub resources: ReverifierResources,
}

impl Reverification {
    fn default_rate() -> String {
        "200M".into()
    }
}

/// What the sidecar that verifies again asks for and may use.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
pub struct ReverifierResources {
    /// Processor time. Less makes the reading slower, nothing else.
    #[serde(default = "ReverifierResources::default_cpu")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = Rule::new("isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))").message("cpu is a positive quantity, such as 100m."))]
    pub cpu: String,
    /// Memory.
    #[serde(default = "ReverifierResources::default_memory")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = Rule::new("isQuantity(self) && quantity(self).compareTo(quantity('32Mi')) >= 0").message("memory is a quantity of at least 32Mi."))]
    pub memory: String,
}

impl ReverifierResources {
    fn default_cpu() -> String {
        "100m".into()
    }

    fn default_memory() -> String {
        "128Mi".into()
    }
}

impl Default for ReverifierResources {
    fn default() -> Self {
        Self { cpu: Self::default_cpu(), memory: Self::default_memory() }
    }
}
