// Package centrifuge brings messages to the users of a centrifuge node (github.com/centrifugal/centrifuge).
package centrifuge
