package payload

import (
	"sync"

	"github.com/fanfare-im/fanfare/transport"
)

// maxCached is how many notifications a Cache holds: as many tasks as take turns.
const maxCached = 64

// Cache holds what was made of notifications, so that it is made once for a task and a language, not for each token. It is safe for
// concurrent use.
type Cache[T any] struct {
	// Make makes the payload of a message in a language of its texts.
	Make func(m *transport.Message, c *transport.Content, text transport.Text) (T, error)

	mu    sync.Mutex
	tasks map[string]*cached[T]
	order []string
}

type cached[T any] struct {
	content *transport.Content
	texts   *Texts
	err     error
	mu      sync.Mutex
	made    map[string]*made[T]
}

type made[T any] struct {
	once    sync.Once
	payload T
	err     error
}

// Get returns the payload for a notification's device.
func (c *Cache[T]) Get(n *transport.Notification) (T, error) {
	t := c.task(n)
	if t.err != nil {
		var none T
		return none, t.err
	}
	name := t.texts.Choose(n.Device.Locale)
	t.mu.Lock()
	m := t.made[name]
	if m == nil {
		m = new(made[T])
		t.made[name] = m
	}
	t.mu.Unlock()
	m.once.Do(func() { m.payload, m.err = c.Make(n.Message, t.content, t.texts.Text(name)) })
	return m.payload, m.err
}

func (c *Cache[T]) task(n *transport.Notification) *cached[T] {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.tasks[n.Message.ID]; t != nil && t.content == n.Content {
		return t
	}
	t := &cached[T]{content: n.Content, made: make(map[string]*made[T])}
	t.texts, t.err = NewTexts(n.Content)
	if c.tasks == nil {
		c.tasks = make(map[string]*cached[T], maxCached)
	}
	if _, replaced := c.tasks[n.Message.ID]; !replaced {
		if len(c.order) == maxCached {
			delete(c.tasks, c.order[0])
			c.order = append(c.order[:0], c.order[1:]...)
		}
		c.order = append(c.order, n.Message.ID)
	}
	c.tasks[n.Message.ID] = t
	return t
}

// Check makes the payload of a notification in each of its languages, and returns the first error of that.
func (c *Cache[T]) Check(m *transport.Message, content *transport.Content) error {
	texts, err := NewTexts(content)
	if err != nil {
		return err
	}
	for _, name := range texts.Names() {
		if _, err := c.Make(m, content, texts.Text(name)); err != nil {
			return err
		}
	}
	return nil
}
