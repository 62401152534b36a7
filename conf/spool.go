package conf

import (
	"strconv"
	"strings"
)

// This file makes what the plan says about bodies that wait: [spool], and who is
// buffered at all.

// Bounds of a spool. A body waits in its first 64 KiB of memory and in blocks of
// 64 KiB, so that an app's share of less than two of them would take no body.
const (
	spoolAppBytesMin = 128 << 10
	spoolFolderHint  = `folder = "/var/spool/sallyport"`
)

// spool is [spool], divided among the cores: each has an arena of its own, and an
// app's share is a share of each of them.
func (p *planner) spool() Spool {
	s := p.root.below("spool")
	size := "memory"
	var spool Spool
	if folder := s.written("folder"); folder != nil {
		size = "disk"
		spool.Folder, spool.Where = p.path(folder.text), inCore(s.place("folder"))
		if s.written("memory") != nil {
			s.wrong("memory", fault{"is not used: bodies are in spool.folder", "leave it out; disk is the size of what is in the folder"})
		}
	} else if s.written("disk") != nil && s.table.field("folder") == nil {
		s.wrong("disk", fault{"is of a folder, and there is none", "write " + spoolFolderHint + `, or memory = "256MiB" without disk`})
	}
	total := s.number(size)
	app := s.share("per_app", total)
	workers := int64(p.plan.Workers)
	spool.Bytes, spool.AppBytes = total/workers, app/workers
	switch {
	case app > total:
		s.wrong("per_app", fault{"is more than the whole spool, spool." + size, `write at most "100%"`})
	case spool.AppBytes < spoolAppBytesMin:
		last := size
		if total/workers >= spoolAppBytesMin {
			last = "per_app"
		}
		s.wrong(last, fault{
			"leaves an app " + strconv.FormatInt(spool.AppBytes, 10) + " bytes in each of " + counted(workers, "core"),
			"write a larger one: an app needs 128KiB in each core; buffer = false is how an app is not buffered",
		})
	}
	return spool
}

// counted is a number and its noun.
func counted(n int64, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return strconv.FormatInt(n, 10) + " " + noun
}

// share is the value of a share, of a whole.
func (s section) share(last string, whole int64) int64 {
	percent, isPercent := strings.CutSuffix(s.text(last), "%")
	if !isPercent {
		return s.number(last)
	}
	n, _ := strconv.ParseInt(percent, 10, 64) // checked
	return whole/100*n + whole%100*n/100      // in this order nothing overflows
}

// buffer reports whether a route is buffered: what it says itself, or else its app.
func (p *planner) buffer(r section) bool {
	if r.written("buffer") != nil {
		return r.flag("buffer")
	}
	declared := p.root.below("app").table.field(r.text("app"))
	if declared != nil && declared.shape != isTable {
		declared = nil // refused by the checker
	}
	return section{p, "app.*", "", declared}.flag("buffer")
}

// largeBodies is a notice for each app whose share of the spool is less than one
// body may be.
func (p *planner) largeBodies() {
	core := &p.plan.Core
	buffered := make([]bool, len(core.Apps))
	for _, site := range core.Sites {
		for _, route := range site.Routes {
			buffered[route.App] = buffered[route.App] || route.Buffer
		}
	}
	for i := range core.Apps {
		app := &core.Apps[i]
		if !buffered[i] || app.MaxBody != 0 && app.MaxBody <= core.Spool.AppBytes {
			continue
		}
		limit := "no limit"
		if app.MaxBody != 0 {
			limit = strconv.FormatInt(app.MaxBody, 10)
		}
		p.notice(Place{p.file, app.Where.Line, app.Where.Key}, fault{
			"max_body is " + limit + ", and its share of the spool is " + strconv.FormatInt(core.Spool.AppBytes, 10) +
				" bytes in each core: larger bodies are not complete before the app is asked",
			"raise the spool or spool.per_app, or write a lower max_body",
		})
	}
}
