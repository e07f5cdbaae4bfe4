%% links.erl - the workloads of two processes with Erlang's distribution
%%
%%     erl -noinput -noshell -name near@127.0.0.1 -setcookie C -start_epmd false -erl_epmd_port PORT
%%         -dist_listen false -pa DIR -s links main rtt|oneway MESSAGES PORT C DIR
%%
%% The near node starts the far one, which listens on PORT of the loopback interface; no epmd is
%% needed. Messages are binaries of 64 bytes, which live on the heap of the process.
-module(links).
-export([main/1, echo/0, count/2]).

-define(WARM_UP, 200).

main([Workload | _]) when Workload =/= rtt, Workload =/= oneway ->
    io:format(standard_error, "Erlang has no workload '~s'~n", [Workload]),
    erlang:halt(77, [{flush, true}]);
main([Workload, Messages0 | Far]) ->
    Messages = list_to_integer(atom_to_list(Messages0)),
    Port = start_far([atom_to_list(A) || A <- Far]),
    Node = list_to_atom("far@127.0.0.1"),
    ok = await_node(Node, 500),
    {Ns, More} = run(Workload, Node, Messages),
    io:format("workload=~s messages=~b seconds=~.6f per_second=~b~s~n",
              [Workload, Messages, Ns / 1.0e9, round(Messages * 1.0e9 / Ns), More]),
    erlang:send({init, Node}, {stop, stop}),
    receive {Port, {exit_status, _}} -> ok after 5000 -> ok end,
    erlang:halt(0, [{flush, true}]).

%% The far node ends by itself when this one is gone.
start_far([EpmdPort, Cookie, Folder]) ->
    End = "net_kernel:monitor_nodes(true), "
          "receive {nodeup, _} -> ok after 20000 -> halt(1) end, "
          "receive {nodedown, _} -> halt(0) end.",
    open_port({spawn_executable, os:find_executable("erl")},
              [exit_status, {args, ["-noinput", "-noshell", "-name", "far@127.0.0.1", "-setcookie", Cookie,
                                    "-start_epmd", "false", "-erl_epmd_port", EpmdPort,
                                    "-kernel", "inet_dist_use_interface", "{127,0,0,1}",
                                    "-pa", Folder, "-eval", End]}]).

await_node(_, 0) ->
    {error, "the far node does not answer"};
await_node(Node, Tries) ->
    case net_kernel:connect_node(Node) of
        true -> ok;
        _ -> timer:sleep(20), await_node(Node, Tries - 1)
    end.

run(rtt, Node, Messages) ->
    Echo = spawn_link(Node, ?MODULE, echo, []),
    Ball = binary:copy(<<0>>, 64),
    trips(Echo, Ball, ?WARM_UP, []),
    Begin = erlang:monotonic_time(),
    Times = lists:sort(trips(Echo, Ball, Messages, [])),
    Ns = since(Begin),
    {Ns, io_lib:format(" p50_us=~.1f p99_us=~.1f",
                       [us(lists:nth(Messages div 2 + 1, Times)),
                        us(lists:nth(Messages - Messages div 100, Times))])};
run(oneway, Node, Messages) ->
    Sink = spawn_link(Node, ?MODULE, count, [self(), Messages]),
    receive {Sink, ready} -> ok end,
    Begin = erlang:monotonic_time(),
    send(Sink, binary:copy(<<0>>, 64), Messages),
    receive {Sink, Messages} -> {since(Begin), ""} end.

since(Begin) ->
    erlang:convert_time_unit(erlang:monotonic_time() - Begin, native, nanosecond).

us(Native) ->
    erlang:convert_time_unit(Native, native, nanosecond) / 1000.

trips(_, _, 0, Times) ->
    Times;
trips(Echo, Ball, Left, Times) ->
    Before = erlang:monotonic_time(),
    Echo ! {self(), Ball},
    receive Back when is_binary(Back) -> ok end,
    trips(Echo, Ball, Left - 1, [erlang:monotonic_time() - Before | Times]).

echo() ->
    receive {From, Ball} -> From ! Ball end,
    echo().

send(_, _, 0) ->
    ok;
send(Sink, Sample, Left) ->
    Sink ! Sample,
    send(Sink, Sample, Left - 1).

count(Watcher, Messages) ->
    Watcher ! {self(), ready},
    Watcher ! {self(), count_all(0, Messages)}.

count_all(Seen, 0) ->
    Seen;
count_all(Seen, Left) ->
    receive Sample when byte_size(Sample) =:= 64 -> count_all(Seen + 1, Left - 1) end.
