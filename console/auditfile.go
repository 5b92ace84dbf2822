package console

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"sync"
)

// FileAudit is an [Audit] in a file, a JSON object a line, each synced to the disk before it counts. Make one with [OpenFileAudit]. The file is only ever appended
// to; who wants it to be short moves it away and opens it anew.
type FileAudit struct {
	mu   sync.Mutex // of writing
	file *os.File
	torn bool // the end of the file may be half a line
}

// maxEntryBytes is the most that is read as one line; a longer one is passed over.
const maxEntryBytes = 1 << 20

// OpenFileAudit opens the file, and makes it, readable by its owner alone, if it is not there. The caller closes it after the server has stopped.
func OpenFileAudit(path string) (*FileAudit, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	a := &FileAudit{file: f}
	size, err := f.Seek(0, io.SeekEnd)
	if err == nil && size > 0 {
		var last [1]byte
		_, err = f.ReadAt(last[:], size-1)
		a.torn = last[0] != '\n' // the process ended while it wrote
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return a, nil
}

// Record appends an entry and syncs the file.
func (a *FileAudit) Record(_ context.Context, e Entry) error {
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	line = append(line, '\n')
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.torn {
		line = append([]byte{'\n'}, line...)
	}
	a.torn = true
	if _, err := a.file.Write(line); err != nil {
		return err
	}
	a.torn = false
	return a.file.Sync()
}

// List reads entries from the end of the file. Lines that are none are passed over.
func (a *FileAudit) List(ctx context.Context, skip, limit int) ([]Entry, error) {
	info, err := a.file.Stat()
	if err != nil {
		return nil, err
	}
	var out []Entry
	take := func(line []byte) bool {
		var e Entry
		if len(line) == 0 || json.Unmarshal(line, &e) != nil {
			return true
		}
		if skip > 0 {
			skip--
			return true
		}
		if len(out) < limit {
			out = append(out, e)
		}
		return len(out) < limit
	}
	var rest []byte // of the line that begins in front of what was read
	chunk := make([]byte, 64<<10)
	for end := info.Size(); end > 0; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		begin := max(end-int64(len(chunk)), 0)
		part := chunk[:end-begin]
		if _, err := a.file.ReadAt(part, begin); err != nil {
			return nil, err
		}
		for {
			i := bytes.LastIndexByte(part, '\n')
			if i < 0 {
				break
			}
			if !take(append(bytes.Clone(part[i+1:]), rest...)) {
				return out, nil
			}
			part, rest = part[:i], nil
		}
		if rest = append(bytes.Clone(part), rest...); len(rest) > maxEntryBytes {
			rest = nil
		}
		end = begin
	}
	take(rest)
	return out, nil
}

// Close closes the file.
func (a *FileAudit) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.file.Close()
}
