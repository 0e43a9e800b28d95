package cluster

import (
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ForwardVerb is the hidden verb by which this program runs itself as a forwarder.
const ForwardVerb = "__forward"

// forwardDescriptor is the listening socket that a forwarder inherits.
const forwardDescriptor = 3

// Forward passes every connection that arrives at the inherited listening socket on to target. The socket belongs to
// the network namespace it was made in, the connections to the one this process runs in: so it joins the two.
func Forward(target string) error {
	file := os.NewFile(forwardDescriptor, "listener")
	listener, err := net.FileListener(file)
	if err != nil {
		return fmt.Errorf("descriptor %d: %w", forwardDescriptor, err)
	}
	file.Close()
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go forwardConn(conn, target)
	}
}

func forwardConn(near net.Conn, target string) {
	defer near.Close()
	far, err := net.DialTimeout("tcp", target, 10*time.Second)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", time.Now().Format(time.RFC3339), err)
		return
	}
	defer far.Close()
	var both sync.WaitGroup
	both.Go(func() { pump(far, near) })
	both.Go(func() { pump(near, far) })
	both.Wait()
}

// pump copies until the source ends, then says so to the destination while the other direction goes on.
func pump(to, from net.Conn) {
	if _, err := io.Copy(to, from); err != nil {
		// A broken connection is broken for both directions.
		to.Close()
		from.Close()
		return
	}
	if c, ok := to.(*net.TCPConn); ok {
		_ = c.CloseWrite()
	}
}

// listenOn makes a listening socket on 127.0.0.1 in the network namespace of the calling thread; port 0 means any.
func listenOn(port int) (*os.File, int, error) {
	listener, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
	if err != nil {
		return nil, 0, err
	}
	defer listener.Close()
	file, err := listener.File()
	return file, listener.Addr().(*net.TCPAddr).Port, err
}

// apiForward is the command that lets the host reach the API server on a loopback port. It keeps the port it once got.
func (c *Cluster) apiForward() (command, error) {
	socket, port, err := listenOn(c.state.APIPort)
	if err != nil {
		return command{}, fmt.Errorf("API port %d of the host: %w: choose another with --api-port", c.state.APIPort, err)
	}
	if err := c.update(func(s *state) { s.APIPort = port }); err != nil {
		return command{}, err
	}
	return selfForward(socket, apiPort, memberNamespaces)
}

// webhookForward is the command that lets the API server reach a port of the host's loopback.
func (c *Cluster) webhookForward() (command, error) {
	var socket *os.File
	err := inside(c.member(controlPlane).Holder.Pid, unix.CLONE_NEWNET, func() (err error) {
		socket, _, err = listenOn(c.state.WebhookPort)
		return err
	})
	if err != nil {
		return command{}, fmt.Errorf("webhook port %d of the control plane: %w", c.state.WebhookPort, err)
	}
	// It stays in the host's network and ends with the control plane's pid namespace.
	return selfForward(socket, c.state.WebhookPort, unix.CLONE_NEWPID)
}

func selfForward(socket *os.File, port, namespaces int) (command, error) {
	self, err := os.Executable()
	if err != nil {
		return command{}, err
	}
	return command{Path: self, Args: []string{ForwardVerb, fmt.Sprintf("127.0.0.1:%d", port)},
		Namespaces: namespaces, Extra: []*os.File{socket}}, nil
}
