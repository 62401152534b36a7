package message

// Tunnels counts the exchanges of an engine that have become tunnels, for whoever waits for the last
// one. The zero value has none; a lock of the engine's guards it.
type Tunnels struct {
	count int
	over  chan struct{} // made by Over
	told  bool          // it is closed
}

// Enter counts one more, and reports whether it did: none is counted once their end is waited for.
func (t *Tunnels) Enter() bool {
	if t.over != nil {
		return false
	}
	t.count++
	return true
}

// Leave takes one off that was counted.
func (t *Tunnels) Leave() {
	t.count--
	t.tell()
}

// Over is a channel that is closed when no tunnel is left.
func (t *Tunnels) Over() <-chan struct{} {
	if t.over == nil {
		t.over = make(chan struct{})
		t.tell()
	}
	return t.over
}

func (t *Tunnels) tell() {
	if t.count == 0 && t.over != nil && !t.told {
		t.told = true
		close(t.over)
	}
}
