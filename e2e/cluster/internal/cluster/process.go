package cluster

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// process names one process so that a reused pid is never taken for it.
type process struct {
	Pid int `json:"pid"`
	// Start is the time the process began, in clock ticks since the machine booted (field 22 of /proc/PID/stat).
	Start uint64 `json:"start"`
	// Boot is the id of the boot that Start counts from.
	Boot string `json:"boot"`
}

// identify reads the identity of a running process.
func identify(pid int) (process, error) {
	_, start, err := readStat(pid)
	if err != nil {
		return process{}, err
	}
	return process{Pid: pid, Start: start, Boot: bootID()}, nil
}

func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}

// readStat gives the state letter and the start time of a process.
func readStat(pid int) (state byte, start uint64, err error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	return parseStat(raw)
}

// parseStat reads /proc/PID/stat. The program's name stands in parentheses and may itself hold any of them, so the
// fields are counted from the last one.
func parseStat(raw []byte) (state byte, start uint64, err error) {
	end := bytes.LastIndexByte(raw, ')')
	if end < 0 {
		return 0, 0, fmt.Errorf("process status %q has no name in parentheses", raw)
	}
	fields := strings.Fields(string(raw[end+1:]))
	const stateField, startField = 0, 19
	if len(fields) <= startField {
		return 0, 0, fmt.Errorf("process status has %d fields after the name, expected more than %d", len(fields), startField)
	}
	start, err = strconv.ParseUint(fields[startField], 10, 64)
	return fields[stateField][0], start, err
}

// alive is false for the zero process, for one that ended (a zombie too), and for another that got the same pid.
func (p process) alive() bool {
	if p.Pid == 0 || p.Boot != bootID() {
		return false
	}
	state, start, err := readStat(p.Pid)
	return err == nil && start == p.Start && state != 'Z' && state != 'X'
}

// kill ends the process at once and waits until it is gone.
func (p process) kill() error {
	if !p.alive() {
		return nil
	}
	if err := unix.Kill(p.Pid, unix.SIGKILL); err != nil && err != unix.ESRCH {
		return fmt.Errorf("kill process %d: %w", p.Pid, err)
	}
	deadline := time.Now().Add(20 * time.Second)
	for !p.ended() {
		if time.Now().After(deadline) {
			return fmt.Errorf("process %d is still there 20 s after SIGKILL: see /proc/%d/stack", p.Pid, p.Pid)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil
}

// ended is true once the process holds nothing more: no files, no ports. The first thread of a process that is being
// killed turns into a zombie while others still hold them all.
func (p process) ended() bool {
	state, start, err := readStat(p.Pid)
	if err != nil || start != p.Start {
		return true
	}
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.Pid))
	return state == 'Z' && (err != nil || len(threads) <= 1)
}

// residentBytes is the memory that the process has in RAM, 0 if it is gone.
func (p process) residentBytes() int64 {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.Pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(raw))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}

// holderMark is the environment variable that names, on each holder, the state directory it belongs to. By it a
// holder is found even when the state that named it is gone.
const holderMark = "WEIGHTLOCK_E2E_HOLDER_OF"

// findHolders gives every running holder of the cluster whose state lies in dir, known to its state or not.
func findHolders(dir string) []process {
	mark := []byte(holderMark + "=" + dir)
	var found []process
	environs, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, file := range environs {
		raw, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(raw, mark) {
			continue
		}
		for _, entry := range bytes.Split(raw, []byte{0}) {
			if !bytes.Equal(entry, mark) {
				continue
			}
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			if err != nil {
				continue
			}
			if p, err := identify(pid); err == nil && p.alive() {
				found = append(found, p)
			}
		}
	}
	return found
}
