package artifacts

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// moduleDir returns the directory of the module cache that holds the sources of a module at the version that the
// go.mod in requirer selects. The go command checks it against go.sum.
func (b *builder) moduleDir(requirer, module string) (string, error) {
	version, err := b.goOutput(requirer, "list", "-mod=readonly", "-m", "-f", "{{.Version}}", module)
	if err != nil {
		return "", err
	}
	out, err := b.goOutput(requirer, "mod", "download", "-json", module+"@"+strings.TrimSpace(version))
	if err != nil {
		return "", err
	}
	var downloaded struct{ Dir string }
	if err := json.Unmarshal([]byte(out), &downloaded); err != nil || downloaded.Dir == "" {
		return "", fmt.Errorf("`go mod download -json %s` named no directory: %s", module, out)
	}
	return downloaded.Dir, nil
}

func (b *builder) goOutput(dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(b.ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(cmd.Environ(), "GOWORK=off", "GOFLAGS=")
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return "", fmt.Errorf("`go %s` in %s: %w: %s%s", strings.Join(args, " "), dir, err, out, exit.Stderr)
	}
	return string(out), err
}
