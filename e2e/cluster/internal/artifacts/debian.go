package artifacts

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"weightlock.dev/e2e/cluster/internal/logged"
	"weightlock.dev/e2e/cluster/internal/progress"
)

// debianPackages is what the build and the nodes need from the machine: the tools that kube-proxy, the kubelet, the
// portmap plugin and Cilium call, the headers that runc is compiled against, and the shell of the test image.
var debianPackages = []string{"nftables", "iptables", "ipset", "conntrack", "iproute2", "libseccomp-dev", "pkg-config",
	"busybox-static", "clang-19", "gcc"}

// ensureDebianPackages installs the packages that are missing. It needs root only when one is.
func ensureDebianPackages(ctx context.Context, log *progress.Log) error {
	missing, err := missingPackages(ctx)
	if err != nil || len(missing) == 0 {
		return err
	}
	list := strings.Join(missing, " ")
	if os.Geteuid() != 0 {
		return fmt.Errorf("these Debian packages are missing: %s; run again as root, or install them with\n  sudo apt-get install --no-install-recommends %s", list, list)
	}
	cache, err := CacheRoot()
	if err != nil {
		return err
	}
	step := log.Step("install Debian packages: "+list, 0)
	apt := func(args ...string) error {
		return logged.Run(ctx, logged.Command{Log: logPath(cache, "apt-get-"+args[0]), Dir: "/",
			Env:  []string{"DEBIAN_FRONTEND=noninteractive"},
			Args: append([]string{"apt-get", "-o", "DPkg::Lock::Timeout=120", "-y"}, args...)})
	}
	if err = apt("update"); err == nil {
		err = apt(append([]string{"install", "--no-install-recommends"}, missing...)...)
	}
	step.Done(err)
	if err != nil {
		return fmt.Errorf("install Debian packages: %w", err)
	}
	return nil
}

func missingPackages(ctx context.Context) ([]string, error) {
	if err := checkDebian(); err != nil {
		return nil, err
	}
	query := append([]string{"-W", "-f", "${Package} ${db:Status-Status}\n"}, debianPackages...)
	out, err := exec.CommandContext(ctx, "dpkg-query", query...).Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) { // it exits 1 when it does not know one of the names
		return nil, fmt.Errorf("dpkg-query: %w", err)
	}
	return notInstalled(string(out)), nil
}

// notInstalled reads the "name status" lines of dpkg-query.
func notInstalled(status string) []string {
	installed := map[string]bool{}
	for _, line := range strings.Split(status, "\n") {
		if name, state, ok := strings.Cut(line, " "); ok && state == "installed" {
			installed[name] = true
		}
	}
	var missing []string
	for _, p := range debianPackages {
		if !installed[p] {
			missing = append(missing, p)
		}
	}
	return missing
}

func checkDebian() error {
	release, err := os.ReadFile("/etc/os-release")
	if err == nil && isDebian(string(release)) {
		if _, err = exec.LookPath("apt-get"); err == nil {
			return nil
		}
	}
	return fmt.Errorf("this machine is not Debian 12 or a derivative with apt-get: the cluster needs the Debian packages %s; run it on Debian, for example in a virtual machine",
		strings.Join(debianPackages, " "))
}

// isDebian reads the text of an os-release file.
func isDebian(release string) bool {
	for _, line := range strings.Split(release, "\n") {
		key, value, _ := strings.Cut(line, "=")
		if key != "ID" && key != "ID_LIKE" {
			continue
		}
		for _, id := range strings.Fields(strings.Trim(value, `"'`)) {
			if id == "debian" {
				return true
			}
		}
	}
	return false
}
