package conf

import "encoding/json"

// Words are an argument list or an environment. As JSON each is bytes: JSON mends what is
// not UTF-8, and execve(2) takes anything.
type Words []string

// MarshalJSON writes the words.
func (w Words) MarshalJSON() ([]byte, error) {
	list := make([][]byte, len(w))
	for i, word := range w {
		list[i] = []byte(word)
	}
	return json.Marshal(list)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (w *Words) UnmarshalJSON(text []byte) error {
	var list [][]byte
	err := json.Unmarshal(text, &list)
	*w = make(Words, len(list))
	for i, word := range list {
		(*w)[i] = string(word)
	}
	return err
}
