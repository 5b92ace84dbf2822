package payload

import (
	"fmt"

	"github.com/fanfare-im/fanfare/transport"
)

// The keys of a notification's data that are fanfare's own.
const (
	MessageKey = "fanfare_id" // the message's ID
	LinkKey    = "link"
	ImageKey   = "image"
)

// AddData adds a notification's data, link and image to what an app is given. It returns an error for a key that is taken.
func AddData(to map[string]any, c *transport.Content, taken ...string) error {
	if c.Link != "" {
		to[LinkKey] = c.Link
	}
	if c.Image != "" {
		to[ImageKey] = c.Image
	}
	for _, key := range append(taken, MessageKey, LinkKey, ImageKey) {
		if _, is := c.Data[key]; is {
			return fmt.Errorf("the key %q of the data is taken", key)
		}
	}
	for key, v := range c.Data {
		if key == "" {
			return fmt.Errorf("a key of the data is empty")
		}
		to[key] = v
	}
	return nil
}
