package conf

import (
	"net/netip"
	"strconv"
	"strings"
)

// This file reads where the log goes, and how many files a process may have open.

// openFilesLeast is what a core needs before the first client.
const openFilesLeast = 64

// openFiles is max_open_files.
func (p *planner) openFiles() int {
	n := int(p.root.number("max_open_files"))
	if n != 0 && n < openFilesLeast {
		p.root.wrong("max_open_files", fault{"is too few to start with", "write " + strconv.Itoa(openFilesLeast) + " or more; a client takes two"})
	}
	return n
}

// logTarget is log.target; nil for stderr.
func (p *planner) logTarget() *LogTarget {
	s := p.root.below("log")
	written := s.text("target")
	if written == "stderr" {
		return nil
	}
	target, f := parseLogTarget(written)
	if !f.none() {
		s.wrong("target", f)
		return nil
	}
	if target.Form == LogFile {
		target.Address = p.path(target.Address)
	}
	target.Where = s.place("target")
	return &target
}

// parseLogTarget reads a path, "unix:/path" or "udp:address:port".
func parseLogTarget(written string) (LogTarget, fault) {
	const forms = `write "stderr", a path, "unix:/dev/log" or "udp:192.0.2.1:514"; names are not looked up`
	if path, is := strings.CutPrefix(written, "unix:"); is {
		if !strings.HasPrefix(path, "/") || strings.ContainsRune(path, 0) {
			return LogTarget{}, fault{"is no socket: " + strconv.Quote(written), forms}
		}
		return LogTarget{Form: LogUnix, Address: path}, checkSocketPath(path)
	}
	if address, is := strings.CutPrefix(written, "udp:"); is {
		parsed, err := netip.ParseAddrPort(address)
		if err != nil || parsed.Port() == 0 {
			return LogTarget{}, fault{"is no address with a port: " + strconv.Quote(written), forms}
		}
		return LogTarget{Form: LogUDP, Address: parsed.String()}, fault{}
	}
	if !strings.Contains(written, "/") || strings.HasSuffix(written, "/") || strings.ContainsRune(written, 0) {
		return LogTarget{}, fault{"is neither a path nor a socket: " + strconv.Quote(written), forms}
	}
	return LogTarget{Form: LogFile, Address: written}, fault{}
}
