package main

import (
	"log/slog"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// timeForm is RFC 3339 with milliseconds, as the cores and the keeper log.
const timeForm = "2006-01-02T15:04:05.000Z07:00"

// newLog is the log of boot and wardens on stderr. Its lines are few and
// log.level does not apply: whoever waits for "ready" can rely on it.
func newLog() *slog.Logger {
	options := &slog.HandlerOptions{ReplaceAttr: houseStyle}
	if _, err := unix.IoctlGetTermios(2, unix.TCGETS); err == nil {
		return slog.New(slog.NewTextHandler(os.Stderr, options))
	}
	return slog.New(slog.NewJSONHandler(os.Stderr, options))
}

// houseStyle gives the three common keys the names and forms of all our logs.
func houseStyle(groups []string, fact slog.Attr) slog.Attr {
	if len(groups) > 0 {
		return fact
	}
	switch fact.Key {
	case slog.TimeKey:
		return slog.String("time", fact.Value.Time().UTC().Format(timeForm))
	case slog.LevelKey:
		return slog.String("level", strings.ToLower(fact.Value.String()))
	case slog.MessageKey:
		return slog.String("message", fact.Value.String())
	default:
		return fact
	}
}
