//go:build !drill && !race && !jail_off

package jail

// switches are as released: every layer, and calls that no filter allows are refused.
func switches() settings {
	return settings{landlockMost: landlockNewest, otherwise: refuse}
}
