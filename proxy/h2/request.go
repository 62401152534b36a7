package h2

import "sallyport/proxy/message"

// begin makes the request of s what its head is, and returns the rule that it breaks, nil if
// none. end says that no body follows.
func (s *stream) begin(head *message.Section, end bool) *message.Refusal {
	s.body.ended, s.body.length = end, -1
	req := &s.exchange.Request
	if refusal := s.opening.Take(req, head, end); refusal != nil {
		return refusal
	}
	if !s.opening.Connect {
		s.body.length = req.Length
	}
	s.reply.priority = message.ParsePriority(head.Priority)
	return nil
}
