package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// poll is how often a plugin looks whether the kubelet was restarted.
const poll = 500 * time.Millisecond

// plugin advertises one resource.
type plugin struct {
	v1beta1.UnimplementedDevicePluginServer
	dir, socket, resource string
	devices               []*v1beta1.Device
}

func newPlugin(dir, node string, r resource) *plugin {
	_, short, _ := strings.Cut(r.name, "/")
	kind := "GPU"
	if strings.HasPrefix(short, "mig-") {
		kind = "MIG"
	}
	p := &plugin{dir: dir, socket: "fake-" + short + ".sock", resource: r.name}
	for i := range r.count {
		p.devices = append(p.devices, &v1beta1.Device{ID: fmt.Sprintf("%s-%s-%d", kind, node, i), Health: v1beta1.Healthy})
	}
	return p
}

// run serves and registers until ctx ends. A kubelet that starts empties the directory of sockets and knows no
// plugin, so each kubelet needs a new socket and a new registration.
func (p *plugin) run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := p.serve(ctx); err != nil {
			log.Printf("%s: %v", p.resource, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(poll):
		}
	}
}

// serve is one life of the plugin: from a new socket until the kubelet that it registered with is gone.
func (p *plugin) serve(ctx context.Context) error {
	kubelet, err := os.Stat(p.path("kubelet.sock"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // not up yet, or just down
	}
	if err != nil {
		return err
	}
	if err := os.Remove(p.path(p.socket)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	listener, err := net.Listen("unix", p.path(p.socket))
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	v1beta1.RegisterDevicePluginServer(server, p)
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	defer server.Stop()
	if err := p.register(ctx); err != nil {
		return fmt.Errorf("register with the kubelet: %w", err)
	}
	log.Printf("%s: registered %d devices", p.resource, len(p.devices))
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case <-time.After(poll):
		}
		now, err := os.Stat(p.path("kubelet.sock"))
		_, own := os.Stat(p.path(p.socket))
		if err != nil || own != nil || !os.SameFile(kubelet, now) || !now.ModTime().Equal(kubelet.ModTime()) {
			log.Printf("%s: the kubelet was restarted, registering again", p.resource)
			return nil
		}
	}
}

func (p *plugin) path(socket string) string { return filepath.Join(p.dir, socket) }

func (p *plugin) register(ctx context.Context) error {
	conn, err := grpc.NewClient("unix://"+p.path("kubelet.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, err = v1beta1.NewRegistrationClient(conn).Register(ctx, &v1beta1.RegisterRequest{
		Version: v1beta1.Version, Endpoint: p.socket, ResourceName: p.resource})
	return err
}

// GetDevicePluginOptions tells the kubelet that no optional call is wanted.
func (p *plugin) GetDevicePluginOptions(context.Context, *v1beta1.Empty) (*v1beta1.DevicePluginOptions, error) {
	return &v1beta1.DevicePluginOptions{}, nil
}

// ListAndWatch reports all devices as healthy, once; they never change.
func (p *plugin) ListAndWatch(_ *v1beta1.Empty, stream v1beta1.DevicePlugin_ListAndWatchServer) error {
	if err := stream.Send(&v1beta1.ListAndWatchResponse{Devices: p.devices}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

// Allocate names the devices in the variable that the NVIDIA container runtime reads.
func (p *plugin) Allocate(_ context.Context, request *v1beta1.AllocateRequest) (*v1beta1.AllocateResponse, error) {
	response := &v1beta1.AllocateResponse{}
	for _, c := range request.ContainerRequests {
		ids := strings.Join(c.DevicesIds, ",")
		log.Printf("%s: allocated %s", p.resource, ids)
		response.ContainerResponses = append(response.ContainerResponses,
			&v1beta1.ContainerAllocateResponse{Envs: map[string]string{"NVIDIA_VISIBLE_DEVICES": ids}})
	}
	return response, nil
}
