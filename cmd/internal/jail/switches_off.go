//go:build race || jail_off

package jail

// switches of builds for the race detector, and for measuring coverage: they link cgo, or
// write files, and run without the layers that forbid it. Lacking says so at every start.
func switches() settings {
	return settings{noSeccomp: true, otherwise: refuse}
}

// kept are the layers that are passed: all.
func kept(layers []layer) []layer { return layers }
