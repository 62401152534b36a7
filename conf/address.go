package conf

import (
	"net/netip"
	"path"
	"strconv"
	"strings"
)

// This file reads what is written in texts: addresses to listen on, app
// sockets, hosts, paths of routes, trusted proxies and names of apps. Each
// function returns the text in its one normal form, or a fault.

// socketPathMax is what fits into sun_path with its closing zero: 108 bytes, unix(7).
const socketPathMax = 107

// parseListen reads an address to listen on: host:port with a numeric host or
// none, "unix:/path", or "fd:NAME".
func parseListen(written string) (string, fault) {
	if name, isFD := strings.CutPrefix(written, "fd:"); isFD {
		if name == "" || strings.ContainsAny(name, ": ") {
			return "", fault{"names no descriptor", `write "fd:NAME" with a name of LISTEN_FDNAMES`}
		}
		return written, fault{}
	}
	if strings.HasPrefix(written, "unix:") || strings.HasPrefix(written, "/") {
		socket, f := parseSocket(written)
		return "unix:" + socket, f
	}
	if _, err := strconv.ParseUint(written, 10, 16); err == nil {
		return "", fault{"has no colon", `write ":` + written + `"`}
	}
	if port, any := strings.CutPrefix(written, "*:"); any {
		return "", fault{"has a * for its host", `write ":` + port + `"`}
	}
	numeric := written
	if strings.HasPrefix(written, ":") {
		numeric = "[::]" + written
	}
	if address, err := netip.ParseAddrPort(numeric); err == nil {
		if numeric == written {
			written = address.String()
		}
		return written, fault{}
	}
	what := "is not an address to listen on: " + strconv.Quote(written)
	if _, err := netip.ParseAddr(strings.Trim(written, "[]")); err == nil {
		return "", fault{what, "add a port"}
	}
	return "", fault{what, `write ":80", "127.0.0.1:8080", "[::1]:8080", "unix:/run/x.sock" or "fd:NAME"; names are not looked up`}
}

// listenPort is the port of an address to listen on; ok is false for "unix:" and "fd:".
func listenPort(address string) (port int, ok bool) {
	cut := strings.LastIndexByte(address, ':')
	n, err := strconv.ParseUint(address[cut+1:], 10, 16)
	return int(n), err == nil && !strings.HasPrefix(address, "fd:") && !strings.HasPrefix(address, "unix:")
}

// tcpHint is for who writes where his app listens on TCP.
const tcpHint = `apps are reached over unix sockets: write "unix:/run/shop/web.sock" and let the app listen there: ` +
	"gunicorn --bind unix:/run/shop/web.sock, puma -b unix:///run/shop/web.sock"

// looksLikeTCP reports whether a text is a URL, host:port, or a port.
func looksLikeTCP(written string) bool {
	port := written[strings.LastIndexByte(written, ':')+1:]
	_, err := strconv.ParseUint(port, 10, 16)
	return err == nil || strings.Contains(written, "://")
}

// parseSocket reads "unix:/path" and returns the path.
func parseSocket(written string) (string, fault) {
	socket, isUnix := strings.CutPrefix(written, "unix:")
	switch {
	case !isUnix && strings.HasPrefix(written, "/"):
		return "", fault{"lacks its unix:", "write unix:" + written}
	case !isUnix && looksLikeTCP(written):
		return "", fault{"is not a unix socket: " + strconv.Quote(written), tcpHint}
	case !isUnix:
		return "", fault{"is not a unix socket: " + strconv.Quote(written), "apps answer on unix sockets only: write unix:/run/shop/web.sock"}
	case strings.HasPrefix(socket, "@"):
		return "", fault{"is an abstract socket, which any user may take", "write unix:/run/shop/web.sock"}
	case !strings.HasPrefix(socket, "/"):
		name := path.Base(path.Clean("/" + socket))
		if name == "/" {
			name = "web.sock"
		}
		return "", fault{"is relative", "write unix:/run/shop/" + name}
	case strings.HasSuffix(socket, "/"):
		return "", fault{"names a folder", "write unix:" + socket + "web.sock"}
	}
	socket = path.Clean(socket)
	return socket, checkSocketPath(socket)
}

// checkSocketPath looks at the length of a socket's path.
func checkSocketPath(socket string) fault {
	if len(socket) > socketPathMax {
		return fault{
			"is a path of " + strconv.Itoa(len(socket)) + " bytes, and the kernel takes " + strconv.Itoa(socketPathMax),
			"move the socket to a shorter path, as /run/shop/web.sock",
		}
	}
	return fault{}
}

// parseHost reads a host of a site: a name, "*.name", "*" or an address, which
// is written in brackets when it is IPv6, as in an authority.
func parseHost(written string) (string, fault) {
	host := strings.ToLower(written)
	for _, r := range host {
		if r >= 0x80 {
			return "", fault{"has letters outside ASCII", "write the name in punycode, as xn--bcher-kva.example"}
		}
	}
	if host == "*" {
		return host, fault{}
	}
	if strings.HasPrefix(host, "[") || strings.Count(host, ":") > 1 && !strings.Contains(host, "//") {
		address, err := netip.ParseAddr(cutBrackets(host))
		if err == nil && address.Is6() && address.Zone() == "" {
			return "[" + address.String() + "]", fault{}
		}
		return "", fault{"is not an IPv6 address: " + strconv.Quote(host), `write it as "[2001:db8::1]"`}
	}
	if address, err := netip.ParseAddr(host); err == nil && address.Is4() {
		return address.String(), fault{}
	}
	if f := hostFault(host); !f.none() {
		return "", f
	}
	return host, fault{}
}

// cutBrackets takes the brackets off an IPv6 address, both or none.
func cutBrackets(host string) string {
	if inner, opened := strings.CutPrefix(host, "["); opened {
		if inner, closed := strings.CutSuffix(inner, "]"); closed {
			return inner
		}
	}
	return host
}

// hostFault explains what is no name: RFC 1123, section 2.1, and the
// underscores that containers have in theirs.
func hostFault(host string) fault {
	what := "is not a host: " + strconv.Quote(host)
	if _, rest, isURL := strings.Cut(host, "://"); isURL {
		name, _, _ := strings.Cut(rest, "/")
		name, _, _ = strings.Cut(name, ":")
		return fault{what, "write " + strconv.Quote(name)}
	}
	if name, port, hasPort := strings.Cut(host, ":"); hasPort && name != "" && strings.Trim(port, "0123456789") == "" {
		return fault{"has a port", "write " + strconv.Quote(name) + ", and the port in [listen]"}
	}
	if name, dot := strings.CutSuffix(host, "."); dot {
		return fault{"ends with a dot", "write " + strconv.Quote(name)}
	}
	name := strings.TrimPrefix(host, "*.")
	if strings.Contains(name, "*") {
		return fault{what, `a * stands alone or for one label, the first: "*.example.com"`}
	}
	if len(name) > 253 {
		return fault{what + ", longer than 253 letters", ""}
	}
	labels := strings.Split(name, ".")
	for _, label := range labels {
		odd := func(r rune) bool { return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789-_", r) }
		if label == "" || len(label) > 63 || strings.IndexFunc(label, odd) >= 0 || label[0] == '-' || label[len(label)-1] == '-' {
			return fault{what, `write a name, as "example.com", "*.example.com", "*" or an IP address`}
		}
	}
	if strings.Trim(labels[len(labels)-1], "0123456789") == "" {
		return fault{what, "a name that ends in a number is an IPv4 address, and this is none"}
	}
	return fault{}
}

// isInternal reports whether no public CA makes a certificate for a host.
func isInternal(host string) bool {
	name := strings.TrimPrefix(host, "*.")
	if !strings.Contains(name, ".") || strings.HasPrefix(name, "[") {
		return true // "*", one label, an IPv6 address
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	for _, domain := range []string{".localhost", ".local", ".internal", ".home.arpa"} {
		if strings.HasSuffix("."+name, domain) {
			return true
		}
	}
	return false
}

// checkRoutePath looks at the path of a route: "/live/*" or "/live".
func checkRoutePath(written string) fault {
	if !strings.HasPrefix(written, "/") {
		return fault{"does not begin with /", "write " + strconv.Quote("/"+written)}
	}
	if strings.ContainsAny(written, "?#") {
		return fault{"has a query or fragment", "routes look at the path alone"}
	}
	for _, c := range []byte(written) {
		if c <= ' ' || c >= 0x7f {
			return fault{"has a character that no path has", "write it as %XX, as the client sends it"}
		}
	}
	steps := strings.Split(written[1:], "/")
	for i, step := range steps {
		last := i == len(steps)-1
		switch {
		case step == "." || step == ".." || step == "" && !last:
			return fault{"is not a normal path: " + strconv.Quote(written), "write " + strconv.Quote(path.Clean(written))}
		case strings.Contains(step, "*") && (step != "*" || !last):
			return fault{"has a * that is no last step", `write "/live/*" for /live and all below it`}
		}
	}
	return fault{}
}

// parseTrusted reads an address or a network of proxies.
func parseTrusted(written string) (netip.Prefix, fault) {
	if address, err := netip.ParseAddr(written); err == nil {
		address = address.Unmap().WithZone("")
		return netip.PrefixFrom(address, address.BitLen()), fault{}
	}
	prefix, err := netip.ParsePrefix(written)
	if err != nil {
		return netip.Prefix{}, fault{"is not a network: " + strconv.Quote(written), `write "10.0.0.0/8", an address, or "unix:"`}
	}
	if prefix != prefix.Masked() {
		return netip.Prefix{}, fault{"has bits behind its mask: " + strconv.Quote(written), "write " + strconv.Quote(prefix.Masked().String())}
	}
	if prefix.Addr().Is4In6() {
		return netip.Prefix{}, fault{"is an IPv4 network written as IPv6", "write it as IPv4: peers are compared in that form"}
	}
	return prefix, fault{}
}

// checkAppName looks at NAME of [app.NAME], which logs, metrics and commands repeat.
func checkAppName(name string) fault {
	if !isBareKey(name) || len(name) > 64 {
		return fault{"is no name for an app", "write up to 64 letters, digits, - and _"}
	}
	return fault{}
}
