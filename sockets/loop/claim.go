package loop

// Claim takes back the function that Idle left, and reports whether it was there
// still: then it was not called and will not be, and the connection is the caller's
// again. Otherwise a worker calls it, or has; of the two, exactly one has the connection.
func (c *Conn) Claim() bool {
	s := &c.reading
	s.mu.Lock()
	defer s.mu.Unlock()
	claimed := s.idle != nil
	s.idle = nil
	return claimed
}
