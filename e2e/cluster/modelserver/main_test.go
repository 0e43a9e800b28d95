package main

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestServesTheMappedFilesAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	for name, contents := range map[string]string{"model.safetensors": "0123456789", "sub/part": "x", "empty": ""} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(contents), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc/hostname", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	weights, err := mapTree(dir)
	if err != nil {
		t.Fatal(err)
	}
	h := handler(weights)
	for _, c := range []struct {
		path, byteRange string
		status          int
		body            string
	}{
		{"/healthz", "", 200, "ok\n"},
		{"/weights/model.safetensors", "", 200, "0123456789"},
		{"/weights/model.safetensors", "bytes=2-4", 206, "234"},
		{"/weights/sub/part", "", 200, "x"},
		{"/weights/empty", "", 200, ""},
		{"/weights/link", "", 404, `no file "link" was mapped` + "\n"},
		{"/weights/other", "", 404, `no file "other" was mapped` + "\n"},
	} {
		request := httptest.NewRequest("GET", c.path, nil)
		if c.byteRange != "" {
			request.Header.Set("Range", c.byteRange)
		}
		response := httptest.NewRecorder()
		h.ServeHTTP(response, request)
		if response.Code != c.status || response.Body.String() != c.body {
			t.Errorf("GET %s %s: got %d %q, want %d %q", c.path, c.byteRange, response.Code, response.Body, c.status, c.body)
		}
	}
}

func TestRefusesAnEmptyOrMissingDirectory(t *testing.T) {
	err := run(t.TempDir(), "127.0.0.1:0")
	if err == nil || !strings.HasSuffix(err.Error(), "it holds no file; is the volume mounted there?") {
		t.Errorf("empty directory: got %v", err)
	}
	err = run("/nonexistent/weights", "127.0.0.1:0")
	if err == nil || !strings.Contains(err.Error(), "load the weights in /nonexistent/weights: ") {
		t.Errorf("missing directory: got %v", err)
	}
}
