package store

// histories checks that samples are of tasks, in order, and of what these can have come to.
func (c *checker) histories() error {
	return c.bucket(bucketHistory).ForEach(func(k, v []byte) error {
		t, p, err := c.of("samples", k)
		if err != nil {
			return err
		}
		samples, err := decodeHistory(v)
		if err != nil || len(samples) == 0 {
			return broken("samples of task %d: %d, %v", t.Seq, len(samples), err)
		}
		last := t.Accepted
		for _, s := range samples {
			if s.At < last || s.At > c.st.now || len(s.Notified) != len(t.Platforms) || s.Delivered+s.Failed+s.Pending > p.Total || s.Opened > p.Opened {
				return broken("task %d: the sample %+v", t.Seq, s)
			}
			last = s.At
		}
		return nil
	})
}

// of returns the task that the key of something leads to, and its progress.
func (c *checker) of(what string, k []byte) (t *Task, p Progress, err error) {
	if len(k) != 8 || c.bucket(bucketTasks).Get(k) == nil {
		return nil, p, broken("%s of task %x, which does not exist", what, k)
	}
	if t, err = decodeTask(be64(k), c.bucket(bucketTasks).Get(k)); err == nil {
		p, err = decodeProgress(c.bucket(bucketProgress).Get(k))
	}
	return t, p, err
}
