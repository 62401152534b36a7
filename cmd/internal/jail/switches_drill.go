//go:build drill && !race && !jail_off

package jail

import (
	"slices"
	"strconv"
	"strings"
)

// drill is set by the linker, for tests that show what each layer is for:
//
//	-tags drill -ldflags "-X sallyport/cmd/internal/jail.drill=landlock=2,seccomp=off"
//
// landlock=N caps the ABI, landlock=0 is none of it; seccomp=off lays no filter;
// seccomp=absent is a kernel without filters;
// without=LAYER leaves out the layer of that name, and does not demand it;
// seccomp=kill kills where the filter would refuse, so that not one refusal goes unseen.
var drill string

// switches are those that the drill says.
func switches() settings {
	s := settings{landlockMost: landlockNewest, otherwise: refuse}
	for word := range strings.SplitSeq(drill, ",") {
		name, value, _ := strings.Cut(word, "=")
		switch {
		case name == "landlock":
			most, err := strconv.Atoi(value)
			if err != nil {
				panic("BUG: drill " + drill)
			}
			s.landlockMost = most
		case name == "without": // see kept
		case word == "seccomp=off":
			s.noSeccomp = true
		case word == "seccomp=absent":
			s.seccompAbsent = true
		case word == "seccomp=kill":
			s.otherwise = kill
		case word != "":
			panic("BUG: drill " + drill)
		}
	}
	return s
}

// kept are the layers that are passed: all but the one that the drill is without.
func kept(layers []layer) []layer {
	_, rest, _ := strings.Cut(drill, "without=")
	without, _, _ := strings.Cut(rest, ",")
	return slices.DeleteFunc(slices.Clone(layers), func(l layer) bool { return l.name == without })
}
