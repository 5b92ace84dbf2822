package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// outside refuses a file in the directory that is looked at, whose own files it could take the place of.
func outside(dir, path string) error {
	looked, err := os.Stat(dir)
	if err != nil {
		return nil // whoever opens it says so
	}
	if to, err := os.Stat(filepath.Dir(path)); err == nil && os.SameFile(looked, to) {
		return usageError{fmt.Errorf("%s is in the directory itself, of which no byte is to change", plain(path))}
	}
	return nil
}

// writeFile writes a file by f: beside it, under another name, and in its place only when it is complete and durable. A device or a pipe is
// written to as it is.
func writeFile(path string, f func(io.Writer) error) (err error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		to, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(f(to), to.Close())
	}
	part, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".part-*") // of mode 0600
	if err != nil {
		return err
	}
	err = f(part)
	if err == nil {
		err = part.Sync()
	}
	err = errors.Join(err, part.Close())
	if err == nil {
		err = os.Rename(part.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(part.Name()))
	}
	return syncDirectory(filepath.Dir(path))
}

func syncDirectory(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // directories cannot be synced there
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// readFile calls f with a file to read and its size, -1 if that is not known; "-" is standard input.
func (c *call) readFile(path string, f func(r io.Reader, size int64) error) error {
	if path == "-" {
		return f(c.waiting(os.Stdin), -1)
	}
	from, err := os.Open(path)
	if err != nil {
		return err
	}
	defer from.Close()
	info, err := from.Stat()
	if err != nil {
		return err
	}
	if info.IsDir() {
		return &fs.PathError{Op: "read", Path: path, Err: errors.New("is a directory")}
	}
	if !info.Mode().IsRegular() {
		return f(c.waiting(from), -1)
	}
	return f(from, info.Size())
}

// waiting is what may have nothing to read for long: the end of the context ends the wait.
func (c *call) waiting(from io.Reader) io.Reader {
	r, w := io.Pipe()
	go func() {
		_, err := io.Copy(w, from)
		w.CloseWithError(err)
	}()
	context.AfterFunc(c.ctx, func() { w.CloseWithError(c.ctx.Err()) })
	return r
}
