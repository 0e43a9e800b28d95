package artifacts

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"weightlock.dev/e2e/cluster/internal/oci"
)

// The directories of a set.
const (
	binDir       = "bin"
	cniDir       = "cni"
	imagesDir    = "images"
	bpfDir       = "cilium-bpf"
	ciliumCRDDir = "cilium-crds"
	policyCRDDir = "policy-api-crds"
)

// layoutVersion changes when this package makes something else of the same inputs.
const layoutVersion = "2"

// hyperkubeNames are the programs that hyperkube is, by the name it is called by.
var hyperkubeNames = []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet"}

// kubernetesVersion is that of modules/kubernetes/go.mod; the programs report it only when the linker is told.
const kubernetesVersion = "v1.36.3"

// busybox is the shell of Debian's busybox-static; a variable because tests must not need the package.
var busybox = "/bin/busybox"

const (
	ciliumModule    = "github.com/cilium/cilium"
	policyAPIModule = "sigs.k8s.io/network-policy-api"
	cniPlugins      = "github.com/containernetworking/plugins/plugins"
)

// setComponents lists what a set consists of, in the order in which it is built. The estimates are for two cores and
// empty caches; what several components share is counted with the first.
func setComponents(b *builder) []*component {
	kubernetes := func(name, dest, pkg string, estimate time.Duration) goProgram {
		return goProgram{name: name, dest: dest, module: "modules/kubernetes", pkg: pkg, estimate: estimate,
			ldflags: "-X k8s.io/component-base/version.gitVersion=" + kubernetesVersion}
	}
	containerd := func(name string, estimate time.Duration) goProgram {
		return goProgram{name: name, dest: binDir, module: "modules/containerd", estimate: estimate,
			pkg: "github.com/containerd/containerd/v2/cmd/" + name}
	}
	cilium := func(name, dest, pkg string, estimate time.Duration) goProgram {
		return goProgram{name: name, dest: dest, module: "modules/cilium", pkg: ciliumModule + "/" + pkg,
			tags: "osusergo", estimate: estimate}
	}
	agent := cilium("cilium-agent", binDir, "daemon", 240*time.Second)
	agent.mends = ciliumMends
	runc := kubernetes("runc", binDir, "github.com/opencontainers/runc", 25*time.Second)
	runc.cgo, runc.tags = true, "seccomp"
	programs := []goProgram{
		kubernetes("hyperkube", binDir, "./hyperkube", 240*time.Second),
		kubernetes("kubectl", binDir, "k8s.io/kubernetes/cmd/kubectl", 25*time.Second),
		kubernetes("etcd", binDir, "go.etcd.io/etcd/server/v3", 40*time.Second),
		kubernetes("coredns", binDir, "./coredns", 40*time.Second),
		kubernetes("fakegpu", binDir, "./fakegpu", 10*time.Second),
		containerd("containerd", 30*time.Second),
		containerd("containerd-shim-runc-v2", 5*time.Second),
		containerd("ctr", 5*time.Second),
		runc,
		kubernetes("loopback", cniDir, cniPlugins+"/main/loopback", 5*time.Second),
		kubernetes("portmap", cniDir, cniPlugins+"/meta/portmap", 5*time.Second),
		cilium("cilium-cni", cniDir, "plugins/cilium-cni", 30*time.Second),
		agent,
		kubernetes("agnhost", binDir, "k8s.io/kubernetes/test/images/agnhost", 30*time.Second),
		kubernetes("helm", binDir, "helm.sh/helm/v4/cmd/helm", 40*time.Second),
		{name: "pause", dest: binDir, pkg: "./pause", estimate: 5 * time.Second},
		{name: "model-server", pkg: "./modelserver", estimate: 5 * time.Second},
	}
	var all []*component
	for _, p := range programs {
		all = append(all, p.component(b))
	}
	return append(all,
		moduleFiles(b, "cilium-bpf", bpfDir, ciliumModule, "bpf"),
		moduleFiles(b, "cilium-crds", ciliumCRDDir, ciliumModule,
			"pkg/k8s/apis/cilium.io/client/crds/v2", "pkg/k8s/apis/cilium.io/client/crds/v2alpha1"),
		moduleFiles(b, "policy-api-crds", policyCRDDir, policyAPIModule, "config/crd/standard"),
		image(b, "pause", PauseImage, oci.Config{Entrypoint: []string{"/pause"}, User: "65535:65535"}, ""),
		image(b, "agnhost", AgnhostImage, oci.Config{Entrypoint: []string{"/agnhost"}, Cmd: []string{"pause"}}, busybox),
		image(b, "coredns", CoreDNSImage, oci.Config{Entrypoint: []string{"/coredns"}}, ""),
		image(b, "model-server", ModelServerImage, oci.Config{Entrypoint: []string{"/model-server"},
			Cmd: []string{"--dir=/weights"}, User: "65532:65532"}, ""),
	)
}

// goProgram is a component that is one program of a Go module.
type goProgram struct {
	name, dest string
	module     string // directory of the go.mod, relative to the source directory
	pkg        string // import path, or "./dir" for one that lies in the module's directory
	ldflags    string // besides -s -w
	tags       string
	cgo, test  bool
	mends      []mend // of the module that pkg belongs to, ciliumModule
	estimate   time.Duration
}

// args are the arguments of `go`; the output goes to out.
func (p goProgram) args(out string, more ...string) []string {
	args := []string{"go", "build"}
	if p.test {
		// Vet would look at every dependency, which takes longer than to compile them.
		args = []string{"go", "test", "-c", "-vet=off"}
	}
	// Without -buildvcs=false the commit of this repository would become part of every program.
	args = append(args, "-mod=readonly", "-trimpath", "-buildvcs=false")
	args = append(args, more...)
	if p.tags != "" {
		args = append(args, "-tags="+p.tags)
	}
	return append(args, "-ldflags="+strings.TrimSpace("-s -w "+p.ldflags), "-o", out, p.pkg)
}

func (p goProgram) env() []string {
	cgo := "CGO_ENABLED=0"
	if p.cgo {
		cgo = "CGO_ENABLED=1"
	}
	return []string{cgo, "GOWORK=off", "GOFLAGS="}
}

func (p goProgram) component(b *builder) *component {
	dir := filepath.Join(b.src, p.module)
	return &component{name: p.name, dest: p.dest, estimate: p.estimate,
		inputs: func(k *keyer) error {
			k.add(b.goVersion)
			k.add(p.env()...)
			k.add(p.args("")...)
			for _, m := range p.mends {
				k.add(m.file, m.old, m.new)
			}
			if err := k.addFile("go.mod", filepath.Join(dir, "go.mod")); err != nil {
				return err
			}
			if err := k.addFile("go.sum", filepath.Join(dir, "go.sum")); err != nil && p.module != "" {
				return err // only the module of this program itself may have no dependencies
			}
			if local, ok := strings.CutPrefix(p.pkg, "."); ok {
				return k.addTree(filepath.Join(dir, local), p.test)
			}
			return nil
		},
		make: func(out string) error {
			if len(p.mends) == 0 {
				return b.run(p.name, dir, p.env(), p.args(filepath.Join(out, p.name)))
			}
			tmp, err := os.MkdirTemp(b.cache, ".mended-"+p.name+"-")
			if err != nil {
				return err
			}
			defer os.RemoveAll(tmp)
			replaced, err := b.mended(dir, ciliumModule, p.mends, tmp)
			if err != nil {
				return err
			}
			return b.run(p.name, dir, p.env(), p.args(filepath.Join(out, p.name), replaced...))
		},
	}
}

// moduleFiles is a component of files that a dependency of modules/cilium ships beside its code: for "bpf" the tree
// as it is, for directories of custom resources the definitions in them.
func moduleFiles(b *builder, name, dest, module string, dirs ...string) *component {
	requirer := filepath.Join(b.src, "modules", "cilium")
	return &component{name: name, dest: dest, estimate: time.Second,
		inputs: func(k *keyer) error {
			k.add(append([]string{layoutVersion, module}, dirs...)...)
			return k.addFile("go.mod", filepath.Join(requirer, "go.mod"))
		},
		make: func(out string) error {
			root, err := b.moduleDir(requirer, module)
			if err != nil {
				return err
			}
			for _, d := range dirs {
				if dest == bpfDir {
					err = copyTree(filepath.Join(root, d), out)
				} else {
					err = copyCRDs(filepath.Join(root, d), out)
				}
				if err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// image is a component that is the archive NAME.tar around the program component of the same name. A shell, if not
// empty, is the path of a static busybox.
func image(b *builder, name, ref string, config oci.Config, shell string) *component {
	return &component{name: name + "-image", dest: imagesDir, estimate: time.Second,
		inputs: func(k *keyer) error {
			k.add(layoutVersion, ref, b.byName[name].key, fmt.Sprintf("%q", config), strconv.FormatBool(shell != ""))
			if shell == "" {
				return nil
			}
			if err := k.addFile("shell", shell); err != nil {
				return fmt.Errorf("%w (Debian package busybox-static)", err)
			}
			return nil
		},
		make: func(out string) error {
			entries := []oci.Entry{oci.File("/"+name, b.file(name, name)), oci.Dir("/tmp", fs.ModeSticky|0o777)}
			if shell != "" {
				entries = append(entries, oci.File("/bin/busybox", shell), oci.Symlink("/bin/sh", "busybox"))
			}
			info, err := oci.Write(filepath.Join(out, name+".tar"), oci.Image{Name: ref, Config: config, Entries: entries})
			if err == nil {
				b.log.Printf("%s: %.1f MB, %s", ref, megabytes(info.ArchiveSize), info.Digest)
			}
			return err
		},
	}
}

func megabytes(bytes int64) float64 { return float64(bytes) / 1e6 }

func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		if d.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		return copyFile(path, target)
	})
}

// copyCRDs copies the YAML files that define custom resources, not the kustomizations beside them. Two directories
// with a file of the same name would hide one definition.
func copyCRDs(from, to string) error {
	files, err := filepath.Glob(filepath.Join(from, "*.yaml"))
	if err != nil {
		return err
	}
	copied := 0
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		if !strings.Contains(string(data), "\nkind: CustomResourceDefinition\n") {
			continue
		}
		target := filepath.Join(to, filepath.Base(f))
		if _, err := os.Stat(target); err == nil {
			return fmt.Errorf("%s: a file of this name was already copied", f)
		}
		if err := os.WriteFile(target, data, 0o644); err != nil {
			return err
		}
		copied++
	}
	if copied == 0 {
		return fmt.Errorf("no custom resource definitions in %s", from)
	}
	return nil
}

// copyFile writes a copy that its owner may change, whatever the module cache's permissions are.
func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	st, err := os.Stat(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, st.Mode().Perm()|0o200)
}
