package message

import "testing"

func TestParsePriority(t *testing.T) {
	for value, want := range map[string]Priority{
		"":                {Urgency: 3},
		"u=0":             {Urgency: 0},
		"u=7, i":          {Urgency: 7, Incremental: true},
		"i":               {Urgency: 3, Incremental: true},
		"i=?1,u=5":        {Urgency: 5, Incremental: true},
		"i, i=?0":         {Urgency: 3},
		"u=8":             {Urgency: 3},
		"u=-1":            {Urgency: 3},
		"u=\"2\"":         {Urgency: 3},
		"foo=bar, u=1, x": {Urgency: 1},
		"u=1,x=2;y":       {Urgency: 1},
		",,":              {Urgency: 3},
	} {
		if got := ParsePriority(value); got != want {
			t.Errorf("%q: %+v, want %+v", value, got, want)
		}
	}
}
