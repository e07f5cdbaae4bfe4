%% bench.erl - the workloads of bench/ in Erlang
%%
%%     erl -noshell -noinput +P 4000000 +S 2:2 -s bench main WORKLOAD THREADS ACTORS MESSAGES WIDTH
%%
%% Written as one would write fast Erlang: plain processes instead of gen_server, the smallest terms
%% that do the job as messages (a small integer is not copied), shared tables as persistent terms.
%% What differs from the C programs is said at each workload.
-module(bench).
-export([main/1]).
%% The processes, exported because spawn/3 is faster than a closure.
-export([player/1, runner/1, runner/2, hopper/1, sink/3, source/3, pinger/5, tree/4, idler/3,
         keeper/2, canceller/3, worker/4, oracle/0]).

main([Workload | Sizes]) ->
    [Threads, Actors, Messages, Width] = [list_to_integer(atom_to_list(N)) || N <- Sizes],
    case run(Workload, Actors, Messages, Width) of
        {Count, Ns} -> report(Workload, Threads, Actors, Count, Width, Ns, "");
        {Count, Ns, More} -> report(Workload, Threads, Actors, Count, Width, Ns, More)
    end,
    erlang:halt(0, [{flush, true}]).

report(Workload, Threads, Actors, Count, Width, Ns, More) ->
    io:format("workload=~s threads=~b actors=~b messages=~b width=~b seconds=~.6f per_second=~b~s~n",
              [Workload, Threads, Actors, Count, Width, Ns / 1.0e9, round(Count * 1.0e9 / Ns), More]).

run('ping-pong', _, Messages, _) ->
    play(Messages, [], []);
run('ping-pong-forced', _, Messages, _) ->
    %% {scheduler, N} is not documented; it keeps a process on that scheduler.
    play(Messages, [{scheduler, 1}], [{scheduler, 2}]);
run(ring, Actors, Messages, Tokens) ->
    ring(Actors, Messages, Tokens);
run('ring-64', Actors, Messages, Tokens) ->
    ring(Actors, Messages, Tokens);
run(random, Actors, Messages, Tokens) ->
    random_hops(Actors, Messages, Tokens);
run('fan-in', Actors, Messages, Batch) ->
    fan_in(Actors, Messages, Batch);
run(big, Actors, Messages, _) ->
    big(Actors, Messages);
run(skynet, Actors, _, Children) ->
    skynet(Actors, Children);
run(spawn, Actors, _, _) ->
    spawn_idle(Actors);
run(timers, _, Messages, _) ->
    timers(Messages);
run('timer-cancel', _, Messages, Batch) ->
    timer_cancel(Messages, Batch);
run(parallel, Actors, Messages, _) ->
    parallel(Actors, Messages);
run(call, _, Messages, _) ->
    call(Messages).

%% ---- helpers ----------------------------------------------------------------------------------

now_ns() ->
    erlang:monotonic_time(nanosecond).

expect(What, Expected, Expected) ->
    What;
expect(What, Found, Expected) ->
    io:format(standard_error, "~s: ~p instead of ~p~n", [What, Found, Expected]),
    erlang:halt(1).

%% Waits for N processes to finish; the sum of their counts.
await(N) -> await(N, 0).

await(0, Sum) -> Sum;
await(N, Sum) -> receive {finished, Count} -> await(N - 1, Sum + Count) end.

%% xorshift32, as in bench.c; stays within Erlang's small integers.
random(X0) ->
    X1 = X0 bxor ((X0 bsl 13) band 16#ffffffff),
    X2 = X1 bxor (X1 bsr 17),
    X2 bxor ((X2 bsl 5) band 16#ffffffff).

resident() ->
    {ok, Text} = file:read_file("/proc/self/statm"),
    [_, Pages | _] = binary:split(Text, <<" ">>, [global]),
    binary_to_integer(Pages) * 4096.

%% ---- ping-pong --------------------------------------------------------------------------------

play(Messages, FirstOptions, SecondOptions) ->
    First = spawn_opt(?MODULE, player, [self()], FirstOptions),
    Second = spawn_opt(?MODULE, player, [self()], SecondOptions),
    First ! {opponent, Second},
    Second ! {opponent, First},
    Begin = now_ns(),
    Second ! Messages - 1,
    await(1),
    {Messages, now_ns() - Begin}.

player(Watcher) ->
    receive {opponent, Opponent} -> player(Watcher, Opponent) end.

player(Watcher, Opponent) ->
    receive
        0 -> Watcher ! {finished, 1};
        Left -> Opponent ! Left - 1, player(Watcher, Opponent)
    end.

%% ---- ring -------------------------------------------------------------------------------------

ring(Actors, Messages, Tokens) ->
    First = spawn(?MODULE, runner, [self()]),
    Others = lists:foldl(fun(_, [Next | _] = Ring) -> [spawn(?MODULE, runner, [self(), Next]) | Ring] end,
                         [First], lists:seq(2, Actors)),
    First ! {next, hd(Others)},
    Ring = list_to_tuple(Others),
    First ! Actors - 1,
    await(1),
    Laps = Messages div Tokens,
    Begin = now_ns(),
    [element(1 + I * Actors div Tokens, Ring) ! Laps - 1 || I <- lists:seq(0, Tokens - 1)],
    await(Tokens),
    {Laps * Tokens, now_ns() - Begin}.

runner(Watcher) ->
    receive {next, Next} -> runner(Watcher, Next) end.

runner(Watcher, Next) ->
    receive
        0 -> Watcher ! {finished, 1};
        Left -> Next ! Left - 1
    end,
    runner(Watcher, Next).

%% ---- random -----------------------------------------------------------------------------------

random_hops(Actors, Messages, Tokens) ->
    Everybody = list_to_tuple([spawn(?MODULE, hopper, [self()]) || _ <- lists:seq(1, Actors)]),
    persistent_term:put(everybody, Everybody),
    [Pid ! begin_hopping || Pid <- tuple_to_list(Everybody)],
    await(Actors),
    Hops = Messages div Tokens,
    Begin = now_ns(),
    [element(1 + I * Actors div Tokens, Everybody) ! {Hops - 1, I + 1} || I <- lists:seq(0, Tokens - 1)],
    await(Tokens),
    {Hops * Tokens, now_ns() - Begin}.

hopper(Watcher) ->
    receive begin_hopping -> Watcher ! {finished, 1} end,
    Everybody = persistent_term:get(everybody),
    hopper(Watcher, Everybody, tuple_size(Everybody)).

hopper(Watcher, Everybody, N) ->
    receive
        {0, _} ->
            Watcher ! {finished, 1};
        {Left, Random0} ->
            Random = random(Random0),
            element(1 + Random rem N, Everybody) ! {Left - 1, Random}
    end,
    hopper(Watcher, Everybody, N).

%% ---- fan-in -----------------------------------------------------------------------------------

fan_in(Actors, Messages, Batch) ->
    Each = Messages div Actors,
    Total = Each * Actors,
    Sink = spawn(?MODULE, sink, [self(), 0, Total]),
    Begin = now_ns(),
    [spawn(?MODULE, source, [Sink, Each, Batch]) ! go_on || _ <- lists:seq(1, Actors)],
    expect("samples", await(1), Total),
    {Total, now_ns() - Begin}.

sink(Watcher, Total, Total) ->
    Watcher ! {finished, Total};
sink(Watcher, Seen, Total) ->
    receive Sample when is_integer(Sample) -> sink(Watcher, Seen + 1, Total) end.

source(_, 0, _) ->
    ok;
source(Sink, Left, Batch) ->
    receive go_on -> ok end,
    Rest = send_batch(Sink, Left, Batch),
    self() ! go_on,
    source(Sink, Rest, Batch).

send_batch(_, Left, Batch) when Left =:= 0; Batch =:= 0 ->
    Left;
send_batch(Sink, Left, Batch) ->
    Sink ! Left,
    send_batch(Sink, Left - 1, Batch - 1).

%% ---- big --------------------------------------------------------------------------------------

big(Actors, Messages) ->
    Each = Messages div 2 div Actors,
    Everybody = list_to_tuple([spawn(?MODULE, pinger, [self(), Actors, I, I + 1, Each])
                               || I <- lists:seq(0, Actors - 1)]),
    persistent_term:put(everybody, Everybody),
    Begin = now_ns(),
    [Pid ! begin_pinging || Pid <- tuple_to_list(Everybody)],
    expect("pongs", await(Actors), Each * Actors),
    {2 * Each * Actors, now_ns() - Begin}.

pinger(Watcher, N, Index, Random, Wanted) ->
    receive begin_pinging -> ok end,
    Everybody = persistent_term:get(everybody),
    pinger(Watcher, Everybody, N, Index, ping_somebody(Everybody, N, Index, Random), 0, Wanted).

%% A ping may come before begin_pinging: it stays in the mailbox until then.
pinger(Watcher, Everybody, N, Index, Random, Pongs, Wanted) ->
    receive
        pong when Pongs + 1 < Wanted ->
            Next = ping_somebody(Everybody, N, Index, Random),
            pinger(Watcher, Everybody, N, Index, Next, Pongs + 1, Wanted);
        pong ->
            Watcher ! {finished, Pongs + 1},
            pinger(Watcher, Everybody, N, Index, Random, Pongs + 1, Wanted);
        Pinger ->
            Pinger ! pong,
            pinger(Watcher, Everybody, N, Index, Random, Pongs, Wanted)
    end.

ping_somebody(Everybody, N, Index, Random0) ->
    Random = random(Random0),
    case Random rem (N - 1) of
        Other when Other >= Index -> element(Other + 2, Everybody) ! self();
        Other -> element(Other + 1, Everybody) ! self()
    end,
    Random.

%% ---- skynet: a process runs as soon as it is spawned, so there is no order to grow -------------

skynet(Actors, Children) ->
    Leaves = round_up(1, Actors, Children),
    Begin = now_ns(),
    spawn(?MODULE, tree, [self(), 0, Leaves, Children]),
    Sum = receive Value -> Value end,
    Ns = now_ns() - Begin,
    expect("the sum", Sum, Leaves * (Leaves - 1) div 2),
    {Leaves, Ns}.

round_up(Leaves, Wanted, Children) when Leaves < Wanted -> round_up(Leaves * Children, Wanted, Children);
round_up(Leaves, _, _) -> Leaves.

tree(Parent, First, 1, _) ->
    Parent ! First;
tree(Parent, First, Leaves, Children) ->
    grow(First, Leaves div Children, Children, Children),
    Parent ! sum(Children, 0).

grow(_, _, _, 0) ->
    ok;
grow(First, Leaves, Children, Left) ->
    spawn(?MODULE, tree, [self(), First, Leaves, Children]),
    grow(First + Leaves, Leaves, Children, Left - 1).

sum(0, Sum) -> Sum;
sum(N, Sum) -> receive Value -> sum(N - 1, Sum + Value) end.

%% ---- spawn ------------------------------------------------------------------------------------

spawn_idle(Actors) ->
    Others = erlang:processes(),
    Started = atomics:new(1, []),
    Before = resident(),
    Begin = now_ns(),
    spawn_idlers(Actors, Started),
    wait_until(fun() -> atomics:get(Started, 1) =:= Actors end),
    Ns = now_ns() - Begin,
    After = resident(),
    expect("processes", erlang:system_info(process_count), length(Others) + Actors),
    Idlers = erlang:processes() -- Others,
    StopBegin = now_ns(),
    [exit(Pid, kill) || Pid <- Idlers],
    wait_until(fun() -> erlang:system_info(process_count) =:= length(Others) end),
    {Actors, Ns, io_lib:format(" bytes_per_actor=~b stop_seconds=~.6f",
                               [(After - Before) div Actors, (now_ns() - StopBegin) / 1.0e9])}.

spawn_idlers(0, _) ->
    ok;
spawn_idlers(N, Started) ->
    spawn(?MODULE, idler, [Started, N, N]),
    spawn_idlers(N - 1, Started).

idler(Started, A, B) ->
    atomics:add(Started, 1, 1),
    idler(A, B).

idler(A, B) ->
    receive never_sent -> idler(B, A) end.

wait_until(Condition) ->
    case Condition() of
        true -> ok;
        false -> erlang:yield(), wait_until(Condition)
    end.

%% ---- timers -----------------------------------------------------------------------------------

timers(N) ->
    {Cpu, _} = erlang:statistics(runtime),
    Begin = now_ns(),
    spawn(?MODULE, keeper, [self(), N]),
    Late = receive {late, All} -> list_to_tuple(lists:sort(All)) end,
    Ns = now_ns() - Begin,
    {CpuEnd, _} = erlang:statistics(runtime),
    expect("timers fired", tuple_size(Late), N),
    {N, Ns, io_lib:format(" late_p50_us=~b late_p99_us=~b late_max_us=~b cpu_us=~.3f",
                          [element(1 + N div 2, Late) div 1000, element(N - N div 100, Late) div 1000,
                           element(N, Late) div 1000, (CpuEnd - Cpu) * 1000 / N])}.

keeper(Watcher, N) ->
    set_timers(N, 1),
    Watcher ! {late, ticks(N, [])}.

set_timers(0, _) ->
    ok;
set_timers(N, Random0) ->
    Random = random(Random0),
    Delay = 1 + Random rem 1000,
    erlang:send_after(Delay, self(), now_ns() + Delay * 1000000),
    set_timers(N - 1, Random).

ticks(0, Late) -> Late;
ticks(N, Late) -> receive Due -> ticks(N - 1, [max(0, now_ns() - Due) | Late]) end.

timer_cancel(N, Batch) ->
    Begin = now_ns(),
    spawn(?MODULE, canceller, [self(), N, Batch]) ! go_on,
    expect("timers cancelled", await(1), N),
    {N, now_ns() - Begin}.

canceller(Watcher, N, Batch) -> canceller(Watcher, N, Batch, 0).

canceller(Watcher, 0, _, Cancelled) ->
    Watcher ! {finished, Cancelled};
canceller(Watcher, Left, Batch, Cancelled) ->
    receive go_on -> ok end,
    N = min(Left, Batch),
    Timers = [erlang:send_after(60000, Watcher, {tick, I}) || I <- lists:seq(1, N)],
    Done = length([T || T <- Timers, is_integer(erlang:cancel_timer(T))]),
    self() ! go_on,
    canceller(Watcher, Left - N, Batch, Cancelled + Done).

%% ---- parallel ---------------------------------------------------------------------------------

parallel(Actors, Messages) ->
    Steps = calibrate(20, 1000000000000),
    Each = Messages div Actors,
    Begin = now_ns(),
    [spawn(?MODULE, worker, [self(), Each, Each, Steps]) ! work || _ <- lists:seq(1, Actors)],
    expect("pieces of work", await(Actors), Each * Actors),
    {Each * Actors, now_ns() - Begin}.

calibrate(0, Best) ->
    1000000 * 100000 div Best;
calibrate(Tries, Best) ->
    Begin = now_ns(),
    compute(1, 1000000),
    calibrate(Tries - 1, min(Best, now_ns() - Begin)).

compute(Value, 0) -> Value;
compute(Value, Steps) -> compute((Value * 1664525 + 1013904223) band 16#ffffffff, Steps - 1).

worker(Watcher, Left, Each, Steps) -> worker(Watcher, Left, Each, Steps, 1).

worker(Watcher, 0, Each, _, _) ->
    Watcher ! {finished, Each};
worker(Watcher, Left, Each, Steps, Value) ->
    receive work -> ok end,
    Next = compute(Value, Steps),
    self() ! work,
    worker(Watcher, Left - 1, Each, Steps, Next).

%% ---- call: the asker is a process like any other, so no thread has to wake ---------------------

call(N) ->
    Oracle = spawn(?MODULE, oracle, []),
    Begin = now_ns(),
    expect("right answers", ask(Oracle, 0, N), N),
    {N, now_ns() - Begin}.

ask(_, N, N) ->
    N;
ask(Oracle, I, N) ->
    Oracle ! {self(), I},
    receive {Oracle, I} -> ask(Oracle, I + 1, N) end.

oracle() ->
    receive {From, I} -> From ! {self(), I}, oracle() end.
