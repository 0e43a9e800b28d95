package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// lockFile opens the file called name, which it makes if need be, for this program alone. While another program has
// it, it waits, and says so by calling waiting once.
func lockFile(ctx context.Context, name string, waiting func()) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return nil, fmt.Errorf("%w: set WEIGHTLOCK_E2E_STATE to a directory that can be written", err)
	}
	for {
		f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, err
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		// The file may have been removed between the two calls: then the lock on it means nothing.
		if err == nil && sameFile(f, name) {
			return f, nil
		}
		f.Close()
		if err != nil && !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", name, err)
		}
		if err != nil && waiting != nil {
			waiting()
			waiting = nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// unlock gives a locked file free, and removes it first if it is not to stay.
func unlock(f *os.File, remove bool) {
	if remove {
		_ = os.Remove(f.Name())
	}
	_ = f.Close()
}

func sameFile(f *os.File, name string) bool {
	a, errA := f.Stat()
	b, errB := os.Stat(name)
	return errA == nil && errB == nil && os.SameFile(a, b)
}
