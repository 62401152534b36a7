package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"

	"sallyport/cmd/internal/jail"
	"sallyport/sockets"
	"sallyport/upstream/board"
	"sallyport/upstream/spool"
)

// This file is what a warden does of the start that takes no privilege: it makes what its
// wards share of the empty memory that boot has left, for its filter lets it make none, and
// says what each is given.

// furnish completes the duty of a warden of ours, and what it holds. That of an app has
// all of it from boot.
func (d *duty) furnish(held sockets.Gifts) (sockets.Gifts, error) {
	switch {
	case d.Core != nil:
		return d.furnishCores(held)
	case d.Keeper != nil:
		return d.furnishWard(held, jail.Keeper, d.Keeper)
	case d.Registrar != nil:
		return d.furnishWard(held, jail.Registrar, d.Registrar)
	}
	return held, nil
}

// furnishCores makes the cores' part of the plan, the memory in which they count, a
// wake-up for each row of it, and where bodies wait in memory a spool for each.
func (d *duty) furnishCores(held sockets.Gifts) (sockets.Gifts, error) {
	d.fillAdvertisePort()
	d.Core.H3 = d.Core.H3 && d.Core.Certificates > 0 && slices.ContainsFunc(d.Listeners, func(l listening) bool { return l.Secure && l.Slots > 0 })
	d.Board, d.Apps = board.PlanOf(d.Core), appDuties(d.Core.Apps)
	d.Spools = d.Board.Rows
	core := wardPlan{Name: "core", Role: jail.Core, Gifts: []passing{{"plan", "part"}, {"board", "board"}}}
	for _, name := range d.Empty {
		fd, err := held.FD(name)
		switch {
		case err != nil:
		case name == "part":
			err = fillJSON(fd, d.Core)
		case name == "board":
			var wakes []int
			wakes, err = board.Make(fd, d.Board)
			for row, fd := range wakes {
				held = append(held, sockets.Gift{Name: rowName("wake", row), FD: fd})
			}
		default:
			err = spool.Make(fd, d.Core.Spool)
		}
		if err != nil {
			return nil, err
		}
	}
	for _, listener := range d.Listeners {
		core.Gifts = append(core.Gifts, passing{listener.Gift, listener.Gift})
	}
	for row := range d.Board.Rows {
		core.Gifts = append(core.Gifts, passing{rowName("wake", row), rowName("wake", row)})
	}
	core.Linked = d.Core.Certificates > 0
	core.QUIC = d.Core.H3
	for i := range d.Core.Workers {
		d.Wards = append(d.Wards, core)
		d.Wards[i].Lone = i == 0
		if d.Core.Workers > 1 {
			d.Wards[i].Name += strconv.Itoa(i)
		}
	}
	return held, nil
}

// furnishWard makes the part of the plan that is for the one ward of keeper and registrar,
// which is given every file there is.
func (d *duty) furnishWard(held sockets.Gifts, role jail.Role, plan any) (sockets.Gifts, error) {
	part, err := held.FD("part")
	if err != nil {
		return nil, err
	}
	ward := wardPlan{Name: d.Name, Role: role, Gifts: []passing{{"plan", "part"}}}
	for _, gift := range held {
		switch gift.Name {
		case "program", "duty", "leash", "part", "empty":
			continue
		case giftShowing:
			if err := sockets.Fix(gift.FD, showingBytes); err != nil {
				return nil, err
			}
		}
		ward.Gifts = append(ward.Gifts, passing{gift.Name, gift.Name})
	}
	d.Wards = []wardPlan{ward}
	return held, fillJSON(part, plan)
}

// fillJSON seals a part of the plan in memory.
func fillJSON(memory int, part any) error {
	text, err := json.Marshal(part)
	if err != nil {
		return fmt.Errorf("warden: part of the plan: %w", err)
	}
	return sockets.SealIn(memory, text)
}

// fillAdvertisePort puts the port that was bound where the plan had to say 0.
func (d *duty) fillAdvertisePort() {
	for _, listener := range d.Listeners {
		if d.Core.AdvertisePort == 0 && listener.Secure {
			// An address without a port is that of a unix socket, and the port stays 0.
			d.Core.AdvertisePort, _ = strconv.Atoi(listener.Address[strings.LastIndexByte(listener.Address, ':')+1:])
		}
	}
}

// sayHomes says once what an app will miss.
func (d *duty) sayHomes(log *slog.Logger) {
	for _, ward := range d.Wards {
		if app := ward.App; app != nil && app.Switched && app.User.Home != "" && !exists(app.User.Home) {
			log.Warn("app without a home", "uid", d.Who.UID, "home", app.User.Home,
				"hint", "what the app keeps in its home, such as gems and caches, it will not find")
		}
	}
}

// rowName is the gift of some kind that is for a row of the board.
func rowName(kind string, row int) string { return kind + strconv.Itoa(row) }

// say warns of what the operator might want to have otherwise.
func (d *duty) say(log *slog.Logger) {
	logNotices(log, d.Notices)
	d.Means.say(log)
	if d.Core != nil {
		sayLimits(log)
	}
	d.sayHomes(log)
}

// exists reports whether there is anything at path.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
