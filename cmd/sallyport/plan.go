package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"sallyport/cmd/internal/jail"
	"sallyport/conf"
)

// This file is the plan command: what run would do, for people and for programs.
// The names of the JSON are a contract; golden files in e2e hold it.

// An outline is a plan as it is shown.
type outline struct {
	File      string             `json:"file"`
	Processes []outlinedProcess  `json:"processes"`
	Listeners []outlinedListener `json:"listeners"`
	Sites     []outlinedSite     `json:"sites"`
	Apps      []outlinedApp      `json:"apps"`
	Control   string             `json:"control"`
	State     string             `json:"state"`
}

// An outlinedProcess is one process in steady state.
type outlinedProcess struct {
	Name    string   `json:"name"`
	Count   int      `json:"count"`
	Program string   `json:"program"`
	User    string   `json:"user"` // the account; "" where only the number exists
	UID     int      `json:"uid"`
	GID     int      `json:"gid"`
	Root    string   `json:"root"`
	Holds   []string `json:"holds"`
	Sheds   []string `json:"sheds"` // layers of the jail, in order
}

type outlinedListener struct {
	Address string `json:"address"`
	TLS     bool   `json:"tls"`
}

type outlinedSite struct {
	Hosts    []string        `json:"hosts"`
	TLS      string          `json:"tls"` // "off", "files", "internal" or "acme"
	Redirect bool            `json:"redirect"`
	Routes   []outlinedRoute `json:"routes"`
}

type outlinedRoute struct {
	Path string `json:"path"`
	App  string `json:"app"`
}

type outlinedApp struct {
	Name    string   `json:"name"`
	Sockets []string `json:"sockets"`
	Ways    []string `json:"ways"` // to each, by what is there now: its folder in the "root" of cores, the "dialer", or "none yet"
}

// planCommand shows what run would do.
func planCommand(args []string) int {
	flags, path := newFlags("plan")
	asJSON := flags.Bool("json", false, "")
	if code, ok := parse(flags, args); !ok {
		return code
	}
	plan, mistakes := load(*path)
	if len(mistakes) > 0 {
		return complain(mistakes)
	}
	o := outlineOf(plan)
	if !*asJSON {
		o.print(os.Stdout)
		return exitFine
	}
	text, err := json.MarshalIndent(o, "", "  ")
	if err != nil {
		fmt.Fprintf(os.Stderr, "sallyport plan: %v\n", err)
		return exitMistake
	}
	fmt.Printf("%s\n", text)
	return exitFine
}

func outlineOf(plan *conf.Plan) *outline {
	o := &outline{File: plan.File, Control: plan.Control, State: plan.State}
	for _, l := range plan.Listeners {
		o.Listeners = append(o.Listeners, outlinedListener{l.Address, l.Secure})
	}
	for _, s := range plan.Core.Sites {
		site := outlinedSite{Hosts: s.Hosts, TLS: tlsOf(plan, s), Redirect: s.Redirect}
		for _, r := range s.Routes {
			site.Routes = append(site.Routes, outlinedRoute{r.Path, plan.Core.Apps[r.App].Name})
		}
		o.Sites = append(o.Sites, site)
	}
	for _, a := range plan.Core.Apps {
		o.Apps = append(o.Apps, outlinedApp{a.Name, a.Sockets, waysTo(a.Sockets, plan.Users.Core)})
	}
	o.addProcesses(plan)
	return o
}

func tlsOf(plan *conf.Plan, s conf.Site) string {
	switch {
	case s.Certificate < 0:
		return "off"
	case slices.ContainsFunc(s.Handles, func(handle int) bool { return plan.Keeper.Certificates[handle].ACME }):
		return "acme"
	case plan.Keeper.Certificates[s.Certificate].Internal:
		return "internal"
	}
	return "files"
}

func (o *outline) addProcesses(plan *conf.Plan) {
	keeps := len(plan.Keeper.Certificates) > 0
	link := []string{}
	if keeps {
		link = append(link, "link to the keeper")
	}
	o.add("main warden", 1, "sallyport", jail.Warden, plan.Users.Core,
		append([]string{"listeners", "control socket", "what cores are given"}, link...))
	o.add("core", plan.Workers, "sallyport-core", jail.Core, plan.Users.Core,
		append([]string{"listeners", "connections of clients and apps"}, link...))
	o.add("mason", 1, "sallyport", jail.Mason, plan.Users.Core, []string{"the root of the cores"})
	dialers := 0 // it is started when it is needed
	for _, a := range o.Apps {
		if slices.Contains(a.Ways, byDialer.String()) {
			dialers = 1
		}
	}
	o.add("dialer", dialers, "sallyport", jail.Dialer, plan.Users.Core, []string{"links to the cores"})
	if keeps {
		o.add("keeper's warden", 1, "sallyport", jail.Warden, plan.Users.Keeper, []string{"key files, open", "links to the cores"})
		o.add("keeper", 1, "sallyport-keeper", jail.Keeper, plan.Users.Keeper, o.keeps(plan))
	}
	if plan.LogTarget != nil {
		o.add("scribe", 1, "sallyport", jail.Scribe, plan.Users.Core, []string{"what others log", plan.LogTarget.Address})
	}
	if plan.Registrar == nil {
		return
	}
	folder := []string{"link to the keeper"}
	if plan.Registrar.Folder != "" {
		folder = append(folder, plan.Registrar.Folder)
	}
	o.add("registrar's warden", 1, "sallyport", jail.RegistrarWarden, plan.Users.Registrar, folder)
	o.add("registrar", 1, "sallyport-registrar", jail.Registrar, plan.Users.Registrar,
		append([]string{"account of the CA", "connections to " + plan.Registrar.CA}, folder...))
}

// keeps is what the keeper holds.
func (o *outline) keeps(plan *conf.Plan) []string {
	holds := []string{"private keys", "ticket keys", "links to the cores"}
	if acme := plan.Keeper.ACME; acme != nil {
		holds = append(holds, "link to the registrar")
		if acme.Folder != "" {
			holds = append(holds, acme.Folder)
		}
	}
	return holds
}

func (o *outline) add(name string, count int, program string, role jail.Role, who conf.ID, holds []string) {
	door, main := jail.Layers(role)
	o.Processes = append(o.Processes, outlinedProcess{
		Name: name, Count: count, Program: program, User: who.Name, UID: who.UID, GID: who.GID,
		Root: plannedRoot(role), Holds: holds, Sheds: append(door, main...),
	})
}

// plannedRoot is what a process of a role finds in the file system.
func plannedRoot(role jail.Role) string {
	switch role {
	case jail.Core:
		return "empty, but for folders of app sockets"
	case jail.Keeper:
		return "empty"
	}
	return "/"
}

// print writes o for people.
func (o *outline) print(to io.Writer) {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PROCESS\tCOUNT\tUSER\tROOT\tHOLDS")
	for _, p := range o.Processes {
		user := p.User
		if user == "" {
			user = fmt.Sprint(p.UID)
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\n", p.Name, p.Count, user, p.Root, strings.Join(p.Holds, ", "))
	}
	fmt.Fprintln(w, "\nLISTENER\tPROTOCOL")
	for _, l := range o.Listeners {
		protocol := "http"
		if l.TLS {
			protocol = "https"
		}
		fmt.Fprintf(w, "%s\t%s\n", l.Address, protocol)
	}
	fmt.Fprintln(w, "\nSITE\tTLS\tREDIRECT\tPATH\tAPP")
	for _, s := range o.Sites {
		for _, r := range s.Routes {
			fmt.Fprintf(w, "%s\t%s\t%t\t%s\t%s\n", strings.Join(s.Hosts, " "), s.TLS, s.Redirect, r.Path, r.App)
		}
	}
	fmt.Fprintln(w, "\nAPP\tSOCKET\tWAY")
	for _, a := range o.Apps {
		for i, socket := range a.Sockets {
			fmt.Fprintf(w, "%s\t%s\t%s\n", a.Name, socket, a.Ways[i])
		}
	}
	fmt.Fprintf(w, "\ncontrol %s\nstate %s\n", o.Control, o.State)
	_ = w.Flush() // to a terminal or a pipe that whoever reads may have closed
}
