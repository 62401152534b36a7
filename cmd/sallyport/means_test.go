package main

import "testing"

func TestMeansOf(t *testing.T) {
	const machine, one, many = "         0          0 4294967295\n", "0 1000 1\n", "0 1000 1\n1 100000 65536\n"
	const bind, none = "0000000000000400", "0000000000000000"
	for _, c := range []struct {
		uid                int
		permitted, ambient string
		maps               string
		want               means
	}{
		{0, bind, none, machine, meansRoot},
		{0, bind, none, "", meansRoot},
		{0, bind, none, "nonsense\n", meansRoot},
		{0, bind, none, one, meansNamespace},
		{0, bind, none, many, meansNamespace},
		{1000, none, none, machine, meansNone},
		{1000, none, none, one, meansNone},
		{1000, bind, bind, machine, meansAmbient},
		{1000, bind, none, machine, meansFile},
	} {
		status := "Name:\tsallyport\nCapPrm:\t" + c.permitted + "\nCapBnd:\t" + bind + "\nCapAmb:\t" + c.ambient + "\nSeccomp:\t0\n"
		if got := meansOf(c.uid, status, c.maps); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
	if got := meansOf(1000, "", machine); got != meansNone {
		t.Errorf("without /proc: %s", got)
	}
	if usersOf(many) != 65537 || usersOf(one) != 1 || usersOf(machine) != everyUser {
		t.Errorf("%d, %d, %d", usersOf(many), usersOf(one), usersOf(machine))
	}
}
