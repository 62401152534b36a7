package main

import "testing"

func TestMeansOf(t *testing.T) {
	const machine, one, many = "         0          0 4294967295\n", "0 1000 1\n", "0 1000 1\n1 100000 65536\n"
	for _, c := range []struct {
		uid                int
		permitted, ambient bool
		maps               string
		want               means
	}{
		{0, true, false, machine, meansRoot},
		{0, true, false, "", meansRoot},
		{0, true, false, "nonsense\n", meansRoot},
		{0, true, false, one, meansNamespace},
		{0, true, false, many, meansNamespace},
		{1000, false, false, machine, meansNone},
		{1000, false, false, one, meansNone},
		{1000, true, true, machine, meansAmbient},
		{1000, true, false, machine, meansFile},
	} {
		if got := meansOf(c.uid, c.permitted, c.ambient, c.maps); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
	if usersOf(many) != 65537 || usersOf(one) != 1 || usersOf(machine) != everyUser {
		t.Errorf("%d, %d, %d", usersOf(many), usersOf(one), usersOf(machine))
	}
}
