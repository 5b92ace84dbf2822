// Command fanfare is for people who have a directory of fanfare and a question: what is in it, is it sound, how many users would this audience have, why did
// somebody not get a message. It makes backups, compacts, and brings users in and out as JSON Lines. docs/cli.md shows each command.
//
// It opens the directory for reading only, except to compact and to import, and so it changes no byte of it, also where a process was killed.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
	"golang.org/x/term"
)

// grammar is what the command line may be.
type grammar struct {
	JSON     bool  `name:"json" help:"Print JSON for scripts: an object, or one in each line of a list."`
	Progress *bool `negatable:"" help:"Show on standard error how far long work has come. Default: if that is a terminal."`

	Inspect inspectCommand `cmd:"" help:"Show what is in a directory, and what takes its space."`
	Check   checkCommand   `cmd:"" help:"Verify that everything in a directory is as it must be."`
	Backup  backupCommand  `cmd:"" help:"Write a directory to a file, a tar archive."`
	Restore restoreCommand `cmd:"" help:"Make a directory of a backup."`
	Compact compactCommand `cmd:"" help:"Give free space within the files back."`
	Export  exportCommand  `cmd:"" help:"Write users as JSON Lines."`
	Import  importCommand  `cmd:"" help:"Read users as JSON Lines. The directory is made if there is none."`
	Count   countCommand   `cmd:"" help:"Count the users of an audience."`
	Members membersCommand `cmd:"" help:"List the users of an audience."`
	User    userCommand    `cmd:"" help:"Show what is known of a user, and what they wait for."`
	Tasks   tasksCommand   `cmd:"" help:"List the tasks, newest first."`
	Task    taskCommand    `cmd:"" help:"Show how far a task has come."`
	Version versionCommand `cmd:"" help:"Show the version of this program."`
}

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	var g grammar
	parser, err := kong.New(&g,
		kong.Name("fanfare"), kong.Description(description),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoAppDescFormat: true, NoExpandSubcommands: true}))
	if err != nil {
		panic(err) // the grammar is wrong, whatever the arguments
	}
	command, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s\nfanfare --help shows the commands, fanfare COMMAND --help one of them.\n", message(err))
		return exitUsage
	}
	c := &call{ctx: ctx, out: bufio.NewWriterSize(os.Stdout, 64<<10), json: g.JSON, bars: term.IsTerminal(int(os.Stderr.Fd()))}
	c.terminal = term.IsTerminal(int(os.Stdout.Fd()))
	if g.Progress != nil {
		c.bars = *g.Progress
	}
	err = command.Run(c)
	if e := c.out.Flush(); err == nil {
		err = e
	}
	code := exitCode(ctx, err)
	if code == exitInterrupted {
		fmt.Fprintln(os.Stderr, "fanfare: interrupted")
	} else if err != nil {
		fmt.Fprintln(os.Stderr, message(err))
	}
	return code
}
