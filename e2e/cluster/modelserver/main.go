// Command modelserver stands in for a model server: it maps every file of a directory into memory, as a loader of
// weights does, and serves the mapped bytes over HTTP at /weights/NAME. /healthz answers once all files are mapped.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	log.SetFlags(log.LstdFlags | log.LUTC)
	dir := flag.String("dir", "/weights", "directory of the weights")
	listen := flag.String("listen", ":8080", "address to serve on")
	flag.Parse()
	if err := run(*dir, *listen); err != nil {
		log.Fatal(err)
	}
}

func run(dir, listen string) error {
	weights, err := mapTree(dir)
	if err != nil {
		return fmt.Errorf("load the weights in %s: %w", dir, err)
	}
	if len(weights) == 0 {
		return fmt.Errorf("load the weights in %s: it holds no file; is the volume mounted there?", dir)
	}
	log.Printf("devices: %q", os.Getenv("NVIDIA_VISIBLE_DEVICES"))
	server := &http.Server{Addr: listen, Handler: handler(weights), ReadHeaderTimeout: 10 * time.Second}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	go func() {
		<-ctx.Done()
		deadline, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		if err := server.Shutdown(deadline); err != nil {
			log.Printf("requests cut off: %v", err)
		}
	}()
	log.Printf("serving %d files on %s", len(weights), listen)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// mapTree maps every regular file below dir for reading. The keys are paths relative to dir, with slashes.
func mapTree(dir string) (map[string][]byte, error) {
	weights := map[string][]byte{}
	return weights, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		data, err := mapFile(path)
		if err != nil {
			return fmt.Errorf("map %s: %w", path, err)
		}
		log.Printf("mapped %s, %d bytes", path, len(data))
		weights[filepath.ToSlash(rel)] = data
		return nil
	})
}

func mapFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || st.Size() == 0 { // the kernel refuses to map nothing
		return nil, err
	}
	return syscall.Mmap(int(f.Fd()), 0, int(st.Size()), syscall.PROT_READ, syscall.MAP_SHARED)
}

func handler(weights map[string][]byte) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /weights/{name...}", func(w http.ResponseWriter, r *http.Request) {
		name := r.PathValue("name")
		data, ok := weights[name]
		if !ok {
			http.Error(w, fmt.Sprintf("no file %q was mapped", name), http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	})
	return mux
}
