package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"sallyport/cmd/internal/jail"
	"sallyport/conf"
	"sallyport/sockets"
)

// This file is what a reload does before it asks for anything: it opens what is new with the
// privilege that it has, has the keys checked, and packs all of it. Whatever is wrong is said
// then, and nothing has changed.

// parcel makes all that the cores and the keeper of the new plan are given.
func (b *boot) parcel() (parcel int, mistakes []conf.Mistake, err error) {
	mistakes = slices.Concat(b.Unfit, b.bind(nil), b.openSpools(), b.openFiles(), b.openAuthority())
	if len(mistakes) > 0 {
		return -1, mistakes, nil
	}
	parcel, err = b.pack()
	return parcel, nil, err
}

// errKeys is what a checking keeper has said more of.
var errKeys = errors.New("not reloaded: see above; what runs serves on")

// checkKeys has a keeper read certificates and keys, under the keeper's user and in its
// jail: root reads no key. It says itself what is wrong with them.
func (b *boot) checkKeys(gifts sockets.Gifts) error {
	program, err := findProgram("sallyport-keeper")
	if err != nil {
		return err
	}
	defer unix.Close(program)
	s := stage{
		Role: jail.Keeper, Sandbox: b.Plan.Sandbox, Who: b.Plan.Users.Keeper, gifts: gifts, dies: true,
		program: jail.Program{FD: program, Argv: []string{"sallyport-keeper", "--check", "--gifts", gifts.Names()}},
	}
	pid, err := s.start()
	if err != nil {
		return err
	}
	status, err := endOf(pid)
	switch {
	case err != nil:
		return err
	case !status.Exited():
		return fmt.Errorf("not reloaded: the keeper that was to check the keys has ended: %s", fateText(status))
	case status.ExitStatus() != exitFine:
		return errKeys
	}
	return nil
}

// pack makes the parcel.
func (b *boot) pack() (int, error) {
	gifts := slices.Concat(b.spools, b.listeners)
	if len(b.Plan.Keeper.Certificates) > 0 {
		table, err := b.packTable()
		if err != nil {
			return -1, err
		}
		defer unix.Close(table)
		gifts = append(gifts, sockets.Gift{Name: "keeper", FD: table})
	}
	list, err := b.packSockets()
	if err != nil {
		return -1, err
	}
	if gifts, err = b.seal(append(gifts, list...)); err != nil {
		return -1, err
	}
	return sockets.Pack(gifts)
}

// packTable makes the parcel within, which is for the keeper alone, once the keys are checked.
func (b *boot) packTable() (int, error) {
	part, err := sealJSON("keeper", b.Plan.Keeper)
	if err != nil {
		return -1, err
	}
	defer unix.Close(part)
	gifts := append(sockets.Gifts{{Name: "plan", FD: part}}, b.files...)
	if err := b.checkKeys(gifts); err != nil {
		return -1, err
	}
	return sockets.Pack(gifts)
}

// withdraw closes what an offer has bound that was not taken, and removes what would be
// left of it.
func (b *boot) withdraw() {
	b.listeners.Close()
	for _, l := range b.opened {
		if path, found := strings.CutPrefix(l.Address, "unix:"); found {
			removeSocket(path)
		}
	}
}

// text is a listener for people: "https on [::]:443".
func (l listening) text() string {
	if l.Secure {
		return "https on " + l.Address
	}
	return "http on " + l.Address
}
