package conf

import "encoding/json"

// Words are an argument list or an environment. As JSON each is bytes: JSON mends what is
// not UTF-8, and execve(2) takes anything.
type Words []string

// MarshalJSON writes the words.
func (w Words) MarshalJSON() ([]byte, error) {
	var list [][]byte
	for _, word := range w {
		list = append(list, []byte(word))
	}
	return json.Marshal(list)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (w *Words) UnmarshalJSON(text []byte) error {
	var list [][]byte
	err := json.Unmarshal(text, &list)
	*w = nil
	for _, word := range list {
		*w = append(*w, string(word))
	}
	return err
}
